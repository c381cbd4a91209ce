"""The folder of a run: one writer, resumed bit for bit, never another run's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_parts import make_episode
from netllm_adapt import AdaptedModel, BackboneSpec, fit
from netllm_adapt.pool import Episode, Pool, PoolWriter, reader
from netllm_adapt.training import loading
from netllm_adapt.training.resume_state import read_state, write_state
from netllm_adapt.training.run_folder import open_run, read_log
from training_parts import EPISODES, VNNI, make_model, recipe, weights

pytestmark = pytest.mark.usefixtures("registered_parts")


@pytest.mark.parametrize(
    "changes", [{"average": 0.0}, {"average": 0.9}, pytest.param({"products": "int8"}, marks=VNNI)]
)
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, changes: dict[str, object]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = recipe(lora_dropout=0.1, **changes)
    fit(make_model(), EPISODES, recipe=settings, out=whole)

    class Killed(Exception):
        pass

    calls = []

    def kill_at_the_second(model: AdaptedModel) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return {}

    with pytest.raises(Killed):
        fit(make_model(), EPISODES, recipe=settings, out=cut, validate=kill_at_the_second)
    assert read_log(cut)[-1]["step"] == 8
    fit(make_model(), EPISODES, recipe=settings, out=cut, resume=True)
    assert weights(cut / "last") == weights(whole / "last")
    assert [line["step"] for line in read_log(cut)] == [line["step"] for line in read_log(whole)]


def test_a_pool_that_memory_does_not_hold_is_learned_from_and_resumed_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(model: AdaptedModel) -> dict[str, float]:
        raise InterruptedError

    with PoolWriter(tmp_path / "pool", task="any", setting="", provenance={}) as writer:
        for number in range(60):
            writer.add(make_episode(6, seed=number))
    monkeypatch.setattr(reader, "KEPT", 1)
    pool, settings = Pool(tmp_path / "pool"), recipe(batch=16, micro_batch=16)
    fit(make_model(), pool, recipe=settings, out=tmp_path / "whole")
    monkeypatch.setenv(loading.SWITCH, "1")  # a thread that loads ahead changes nothing
    with pytest.raises(InterruptedError):
        fit(make_model(), pool, recipe=settings, out=tmp_path / "cut", validate=stop)
    fit(make_model(), pool, recipe=settings, out=tmp_path / "cut", resume=True)
    assert weights(tmp_path / "cut" / "last") == weights(tmp_path / "whole" / "last")
    monkeypatch.undo()
    rows = make_model().rows(pool)
    assert rows.facts() == make_model().rows([*pool]).facts()
    assert (
        rows.shuffled(np.random.default_rng(0)).tolist()
        == np.random.default_rng(0).permutation(len(rows)).tolist()
    )


@pytest.mark.parametrize("half", ['{"step": 9, "lo', "{", '{"step": 9, "loss": 1.2'])
def test_a_half_written_last_line_of_the_log_is_dropped(tmp_path: Path, half: str) -> None:
    done = fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path)
    log = tmp_path / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + half)
    assert [line["step"] for line in read_log(tmp_path)] == [2, 2]
    again = fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path, resume=True)
    assert log.read_text() == whole
    for one, other in zip(again.parameters(), done.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_finished_run_has_nothing_left_to_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def figures(model: AdaptedModel) -> dict[str, float]:
        asked.append(model)
        return {"qoe": 1.0}

    def run(resume: bool) -> AdaptedModel:
        options: Any = {"validate": figures, "metric": "qoe", "finish": asked.append}
        return fit(
            make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path, resume=resume, **options
        )

    asked: list[AdaptedModel] = []
    done = run(resume=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    count = len(asked)
    again = run(resume=True)
    assert "has reached its end already" in caplog.text
    assert len(asked) == count
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before
    for one, other in zip(again.parameters(), done.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    def resume() -> str:
        try:
            fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path, resume=True)
        except BlockingIOError as error:
            return str(error)
        return ""

    def figures(model: AdaptedModel) -> dict[str, float]:
        told.append(other.submit(resume).result())
        return {"qoe": 1.0}

    told: list[str] = []
    with ThreadPoolExecutor(1) as other:
        fit(
            make_model(),
            EPISODES,
            recipe=recipe(steps=2),
            out=tmp_path,
            validate=figures,
            metric="qoe",
        )
    assert f"{tmp_path}: must have one writer at a time, but process {os.getpid()}" in told[0]
    assert [line["step"] for line in read_log(tmp_path)] == [2, 2]


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_run_that_was_killed_between_two_renames_is_resumed_and_read(
    tmp_path: Path, name: str
) -> None:
    done = fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path)
    (tmp_path / "finished.json").unlink()

    def cut() -> None:
        (tmp_path / name).rename(tmp_path / f".{name}.old")
        (tmp_path / f".{name}.partial").mkdir()

    cut()
    runs = [fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path, resume=True)]
    assert not [*tmp_path.glob(".*")]
    cut()
    runs.append(AdaptedModel.from_pretrained(tmp_path / name))
    for again in runs:
        for one, other in zip(again.parameters(), done.parameters(), strict=True):
            assert torch.equal(one, other)
    assert (tmp_path / name).is_dir()


def test_a_damaged_line_elsewhere_in_the_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2, "lo\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl:2: not valid JSON"):
        read_log(tmp_path)


def test_a_full_disk_names_the_file_of_the_run_and_says_to_resume(
    tmp_path: Path, room: Callable[[int], AbstractContextManager[None]]
) -> None:
    with open_run(tmp_path, {}, resume=False) as folder:
        folder.save_state({"step": 1, "weights": torch.zeros(9)})
        folder.log({"step": 1})
        with room(15), pytest.raises(OSError, match=r"--resume: .*log\.jsonl"):
            folder.log({"step": 2, "loss": 1.0})
        assert read_log(tmp_path) == [{"step": 1}]
        with room(1_000), pytest.raises(OSError, match=r"--resume: .*state\.safetensors"):
            folder.save_state({"step": 2, "weights": torch.ones(9_999)})
        state = folder.load_state()
        assert state is not None
        assert (state["step"], len(state["weights"])) == (1, 9)


def test_a_run_is_not_resumed_from_another_pool_or_other_inputs(tmp_path: Path) -> None:
    def run(episodes: list[Episode], resume: bool = True, **inputs: object) -> None:
        settings = recipe(steps=2)
        fit(make_model(), episodes, recipe=settings, out=tmp_path, resume=resume, inputs=inputs)

    run(EPISODES, resume=False, setting="default", validation=4)
    fewer, other = EPISODES[:-1], [*EPISODES[:-1], make_episode(12, 99)]
    with pytest.raises(ValueError, match=r"begun with pool='8 episodes .*', got '7 .*--out"):
        run(fewer, setting="default", validation=4)
    with pytest.raises(ValueError, match=r"begun with pool='8 episodes .*', got '8 "):
        run(other, setting="default", validation=4)
    with pytest.raises(ValueError, match="setting='default', got 'unseen'; with validation=4, got"):
        run(EPISODES, setting="unseen", validation=None)
    run([make_episode(12, seed) for seed in range(8)], setting="default", validation=4)


def test_a_run_is_not_resumed_on_another_backbone(tmp_path: Path) -> None:
    fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path)
    other = make_model()
    other.spec = BackboneSpec("tiny-random-mistral", layers=1, dtype="float32")
    with pytest.raises(ValueError, match="backbone='tiny-random-llama', got 'tiny-random-mistral'"):
        fit(other, EPISODES, recipe=recipe(steps=2), out=tmp_path, resume=True)


def test_a_run_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path)
    path = tmp_path / "settings.json"
    settings = json.loads(path.read_text())
    del settings["inputs"]
    settings["recipe"]["tensorboard"] = True
    path.write_text(json.dumps(settings))
    fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path, resume=True)
    assert "pool" in json.loads(path.read_text())["inputs"]


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(tmp_path: Path) -> None:
    fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path)
    with pytest.raises(ValueError, match="already holds a run"):
        fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path)
    with pytest.raises(ValueError, match="begun with steps=2, got 3"):
        fit(make_model(), EPISODES, recipe=recipe(steps=3), out=tmp_path, resume=True)
    other = make_model()
    other.spec = BackboneSpec("tiny-random-llama", layers=1, dtype="float32", seed=1)
    with pytest.raises(ValueError, match=r"begun with seed=0, got 1\. Resume with"):
        fit(other, EPISODES, recipe=recipe(steps=2, seed=1), out=tmp_path, resume=True)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["best/file", "log.jsonl", "settings.json", "shard-00000.parquet"])
def test_a_folder_of_something_else_is_left_as_it_is(
    tmp_path: Path, name: str, resume: bool
) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("{}")
    with pytest.raises(
        FileExistsError, match=rf"{tmp_path}: .* the folder of a run, .* '{name.split('/')[0]}'"
    ):
        fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path, resume=resume)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_file_is_no_folder_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(FileExistsError, match=r"/run: must be .* the folder of a run, got a file"):
        fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path / "run")


def test_a_run_that_was_killed_before_its_first_file_was_complete_is_resumed(
    tmp_path: Path,
) -> None:
    (tmp_path / ".settings.json.partial").write_text("{")
    fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path, resume=True)
    assert json.loads((tmp_path / "settings.json").read_text())["recipe"]["steps"] == 2


def test_a_run_that_has_not_logged_yet_is_not_joined_by_another(tmp_path: Path) -> None:
    fit(make_model(), EPISODES, recipe=recipe(steps=1), out=tmp_path / "run")
    settings = tmp_path / "begun" / "settings.json"
    settings.parent.mkdir()
    settings.write_text((tmp_path / "run" / "settings.json").read_text())
    with pytest.raises(ValueError, match="already holds a run"):
        fit(make_model(), EPISODES, recipe=recipe(steps=1), out=settings.parent)
    other = recipe(steps=1, seed=1)
    with pytest.raises(ValueError, match="begun with seed=0, got 1"):
        fit(make_model(), EPISODES, recipe=other, out=settings.parent, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_failed_at_its_first_step_leaves_its_folder_to_another(
    tmp_path: Path, resume: bool
) -> None:
    wrong = [make_episode(12, seed) for seed in range(8)]
    for episode in wrong:
        episode.labels = np.full(12, 99)
    with pytest.raises(IndexError):
        fit(make_model(), wrong, recipe=recipe(steps=2), out=tmp_path)
    assert not [*tmp_path.iterdir()]
    fit(make_model(), EPISODES, recipe=recipe(steps=3), out=tmp_path, resume=resume)
    assert json.loads((tmp_path / "settings.json").read_text())["recipe"]["steps"] == 3


def test_a_run_is_not_resumed_with_another_adapter(tmp_path: Path) -> None:
    fit(make_model(), EPISODES, recipe=recipe(steps=4), out=tmp_path / "run")
    other = make_model()
    other.backbone.peft_config["default"].lora_alpha = 9
    with pytest.raises(ValueError, match=r"begun with default\.lora_alpha=2, got 9"):
        fit(other, EPISODES, recipe=recipe(steps=4), out=tmp_path / "run", resume=True)
    other = make_model()
    other.encoder.value.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="begun with trained="):
        fit(other, EPISODES, recipe=recipe(steps=4), out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("content", [b"", b"no state", "half"])
def test_a_damaged_state_is_named(tmp_path: Path, content: bytes | str) -> None:
    fit(make_model(), EPISODES, recipe=recipe(steps=4), out=tmp_path / "run")
    file = tmp_path / "run" / "state.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(ValueError, match=r"state\.safetensors: must hold the state of a run"):
        fit(make_model(), EPISODES, recipe=recipe(steps=4), out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trained": {}}, "`trained` has other names"),
        ({"schedule": {"base_lrs": [1.0]}}, "`schedule` has other names"),
        ({"optimizer": {}}, "param_groups"),
        ({"average": None}, "keys"),
    ],
)
def test_a_state_of_another_run_is_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    fit(make_model(), EPISODES, recipe=recipe(steps=4), out=tmp_path / "run")
    file = tmp_path / "run" / "state.safetensors"
    write_state(file, read_state(file) | changes)
    with pytest.raises(ValueError, match=rf"state\.safetensors: must hold the state of .*{says}"):
        fit(make_model(), EPISODES, recipe=recipe(steps=4), out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"recipe": 5, "spec": {}}', r"settings\.json:1: must hold a JSON object"),
        ('{"recipe": {}, "spec": [1]}', r"settings\.json:1: must hold a JSON object"),
        ('{"recipe": ' * 100_000, r"settings\.json:1: not valid JSON"),
        ('{"recipe": {"steps": NaN}, "spec": {}}', r"settings\.json:1: not valid JSON"),
        (b"\xff\xfe", r"settings\.json:1: not valid JSON|settings\.json:1: must hold"),
    ],
)
def test_damaged_settings_of_a_run_are_named(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "settings.json").write_bytes(raw)
    run = open_run(tmp_path, {"recipe": {}, "spec": {}}, resume=True)
    with pytest.raises(ValueError, match=says), run:
        pytest.fail("was opened")


@pytest.mark.parametrize(
    "line", ["[]", '{"loss": 1.0}', '{"step": "2"}', '{"step": NaN}', "[" * 100_000, "\x00"]
)
def test_a_damaged_line_of_a_log_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl:2: "):
        read_log(tmp_path)
