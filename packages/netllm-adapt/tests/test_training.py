"""The training loop: it learns, it resumes bit for bit, it keeps the best."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_parts import LinearEncoder, LinearHead, make_episode
from hypothesis import given
from hypothesis import strategies as st
from netllm_adapt import AdaptedModel, BackboneSpec, Policy, Recipe, add_lora, fit, load_backbone
from netllm_adapt.batches import collate, plan
from netllm_adapt.llama.training import library_training
from netllm_adapt.lora import has_int8
from netllm_adapt.pool import Episode
from netllm_adapt.training.loop import order
from netllm_adapt.training.resume_state import read_state, write_state
from netllm_adapt.training.run_folder import RunFolder, read_log
from peft import IA3Config, get_peft_model

pytestmark = pytest.mark.usefixtures("registered_parts")
VNNI = pytest.mark.skipif(not has_int8(), reason="no AVX512-VNNI here")
EPISODES = [make_episode(12, seed) for seed in range(8)]


def make_model(*, dropout: float = 0.1) -> AdaptedModel:
    spec = BackboneSpec("tiny-random-llama", layers=1, dtype="float32")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = load_backbone(spec.name, layers=1, dtype=spec.dtype)
        backbone = add_lora(plain, rank=2, dropout=dropout)
        return AdaptedModel(
            backbone=backbone,
            encoder=LinearEncoder(64),
            head=LinearHead(64),
            spec=spec,
            window=4,
            segment=24,
        )


def recipe(**changes: object) -> Recipe:
    settings: dict[str, object] = {
        "steps": 12,
        "batch": 4,
        "warmup": 2,
        "validate_every": 4,
        "log_every": 2,
        "window": 4,
        "segment": 24,
    }
    return Recipe(**(settings | changes))  # type: ignore[arg-type]


def accuracy(model: AdaptedModel) -> dict[str, float]:
    segments = plan([model.sizes(e) for e in EPISODES], segment=model.segment, window=model.window)
    batch = collate(EPISODES, segments)
    with torch.no_grad():
        answers = model.head.answer(model.hidden(batch), batch.observations)
    return {"accuracy": float((answers == batch.labels)[batch.learn].float().mean())}


def weights(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.safetensors"))}


@pytest.mark.parametrize("lean", [True, False])
def test_a_head_that_says_what_it_reads_learns_the_same(lean: bool) -> None:
    results = []
    for reads in (None, 1, 2):
        model = make_model(dropout=0.0)
        model.head.reads = reads
        segments = plan([model.sizes(e) for e in EPISODES], segment=24, window=4)
        with nullcontext() if lean else library_training():
            loss = model(collate(EPISODES, segments))
            loss.sum().backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append({"loss": loss.detach(), **grads})
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-4, atol=1e-5)


def test_training_learns_the_task(tmp_path: Path) -> None:
    model = fit(
        make_model(),
        EPISODES,
        recipe=recipe(steps=60, learning_rate=1e-2, validate_every=60),
        out=tmp_path / "run",
        validate=accuracy,
        metric="accuracy",
    )
    assert accuracy(model)["accuracy"] > 0.9
    losses = [line["loss"] for line in read_log(tmp_path / "run") if "loss" in line]
    assert losses[-1] < losses[0]


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
    folder = RunFolder(tmp_path, {}, resume=False)
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
    del settings["inputs"], settings["recipe"]["tensorboard"]
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


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of PEFT
def test_another_kind_of_adapter_is_trained_too(tmp_path: Path) -> None:
    model = make_model()
    plain = load_backbone("tiny-random-llama", layers=1, dtype="float32")
    for parameter in plain.parameters():
        parameter.requires_grad_(False)
    config = IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"])
    model.backbone = get_peft_model(plain, config)
    fit(model, EPISODES, recipe=recipe(steps=1), out=tmp_path / "run")
    assert read_log(tmp_path / "run")


def test_a_figure_that_decides_nothing_may_be_infinite(tmp_path: Path) -> None:
    def figures(model: AdaptedModel) -> dict[str, float]:
        return {"qoe": 1.0, "stalls": float("nan")}

    out, short = tmp_path / "run", recipe(steps=2)
    fit(make_model(), EPISODES, recipe=short, out=out, validate=figures, metric="qoe")
    assert {"step": 2, "qoe": 1.0} in read_log(out)


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


def test_the_best_validation_is_kept(tmp_path: Path) -> None:
    scores = iter([0.1, 0.9, 0.3])
    fit(
        make_model(),
        EPISODES,
        recipe=recipe(),
        out=tmp_path,
        validate=lambda model: {"score": next(scores)},
        metric="score",
    )
    best = json.loads((tmp_path / "best" / "config.json").read_text())
    assert best["about"]["step"] == 8
    assert json.loads((tmp_path / "last" / "config.json").read_text())["about"]["step"] == 12


@pytest.mark.parametrize(
    ("rate", "every", "kept", "step"), [(1e30, 2, 2, 3), (1e30, 12, None, 3), (3e38, 1, 1, 2)]
)
def test_a_training_that_diverges_fails_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, rate: float, every: int, kept: int | None, step: int
) -> None:
    # The first step's rate is 0; what 1e30 did shows in gradients, what 3e38 did in losses too.
    settings = recipe(learning_rate=rate, validate_every=every, log_every=1)
    with pytest.raises(RuntimeError, match=rf"step {step} must have a finite .*`learning_rate`"):
        fit(make_model(), EPISODES, recipe=settings, out=tmp_path)
    checkpoints = {path.parent.name for path in tmp_path.rglob("config.json")}
    assert checkpoints == ({"last", "best"} if kept else set())
    for name in checkpoints:
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["about"]["step"] == kept
    assert "NaN" not in (tmp_path / "log.jsonl").read_text()


def test_values_of_a_pool_that_are_not_finite_fail_the_first_step(tmp_path: Path) -> None:
    broken = make_episode(12, 0)
    broken.rewards = np.full(12, np.nan)
    with pytest.raises(RuntimeError, match=r"step 1 must have .* got a .* nan.* check the pool"):
        fit(make_model(), [broken], recipe=recipe(), out=tmp_path)


def test_micro_batches_leave_the_result_as_it_is(tmp_path: Path) -> None:
    trained = []
    for size in (1, 4):
        model, out = make_model(dropout=0.0), tmp_path / str(size)
        trained.append(fit(model, EPISODES, recipe=recipe(micro_batch=size), out=out))
    for one, four in zip(*(m.state_dict().values() for m in trained), strict=True):
        torch.testing.assert_close(one, four, atol=1e-4, rtol=1e-3)


def test_only_trainable_parameters_change(tmp_path: Path) -> None:
    model = make_model()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    fit(model, EPISODES, recipe=recipe(), out=tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


def test_tensorboard_gets_the_log_or_says_how_to_install_it(tmp_path: Path) -> None:
    settings = recipe(steps=2, tensorboard=True)
    if importlib.util.find_spec("tensorboard"):
        fit(make_model(), EPISODES, recipe=settings, out=tmp_path)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        losses = [line for line in read_log(tmp_path) if "loss" in line]
        written = [(event.step, event.value) for event in events.Scalars("loss")]
        assert written == [(line["step"], pytest.approx(line["loss"])) for line in losses] != []
    else:
        with pytest.raises(ModuleNotFoundError, match=r"netllm-adapt\[tensorboard\]"):
            fit(make_model(), EPISODES, recipe=settings, out=tmp_path)


def test_an_empty_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no episodes"):
        fit(make_model(), [], recipe=recipe(), out=tmp_path)


def test_a_recipe_of_other_kinds_of_values_names_the_field() -> None:
    wrong = {
        "steps": (1.5, "5", None, True),
        "layers": (2.0,),
        "learning_rate": ("fast", None),
        "tensorboard": (1,),
        "dtype": ("float23", None),
        "products": ("int4", "INT8", True),
        "quantise": ("nf8",),
        "targets": ("q_proj",),
        "seed": (-1,),
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=f"Recipe: `{name}` must be .*, got {value!r}"):
                recipe(**{name: value})
    assert recipe(alpha=64, layers=None, targets=["q_proj"], seed=np.int64(3)).seed == 3


def test_figures_that_cannot_choose_are_refused(tmp_path: Path) -> None:
    def nothing(model: AdaptedModel) -> dict[str, float]:
        return {"qoe": float("nan")}

    with pytest.raises(ValueError, match="`metric` must be one of accuracy, got 'acuracy'"):
        fit(
            make_model(),
            EPISODES,
            recipe=recipe(),
            out=tmp_path / "a",
            validate=accuracy,
            metric="acuracy",
        )
    with pytest.raises(ValueError, match="must give a finite qoe, got nan"):
        fit(
            make_model(),
            EPISODES,
            recipe=recipe(),
            out=tmp_path / "b",
            validate=nothing,
            metric="qoe",
        )
    with pytest.raises(ValueError, match="`metric` 'accuracy' needs `validate`"):
        fit(make_model(), EPISODES, recipe=recipe(), out=tmp_path / "c", metric="accuracy")


def test_a_head_with_the_name_of_another_is_refused_before_it_learns(tmp_path: Path) -> None:
    mine = type("linear", (LinearHead,), {})
    model = make_model()
    model.head = mine(64)
    with pytest.raises(ValueError, match=r"must not be called as an installed part"):
        fit(model, EPISODES, recipe=recipe(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parts_that_no_package_brings_learn_and_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder, head = (
        type(name, (kind,), {})
        for name, kind in (("CellEncoder", LinearEncoder), ("CellHead", LinearHead))
    )
    model = make_model()
    model.encoder, model.head = encoder(64), head(64)
    best = fit(model, EPISODES, recipe=recipe(steps=2), out=tmp_path / "run")
    assert (type(best.encoder), type(best.head)) == (encoder, head)
    assert caplog.text.count("from_pretrained(FOLDER, parts=[CellEncoder, CellHead])") == 1


def test_a_loss_of_another_shape_is_refused() -> None:
    class Mean(LinearHead):
        def loss(self, *args: Any) -> torch.Tensor:
            return super().loss(*args).mean()

    model = make_model()
    model.head = Mean(64)
    segments = plan([model.sizes(e) for e in EPISODES], segment=24, window=4)
    with pytest.raises(
        ValueError, match=r"Mean\.loss must give one loss per row and step, \(.*\(\)"
    ):
        model(collate(EPISODES, segments))


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


def test_a_bad_recipe_names_the_field() -> None:
    with pytest.raises(ValueError, match="`lora_dropout` must be in"):
        recipe(lora_dropout=1.5)
    with pytest.raises(ValueError, match="`steps` must be at least 1, got 0"):
        recipe(steps=0)
    for name in ("learning_rate", "clip", "alpha", "weight_decay"):
        with pytest.raises(ValueError, match=f"`{name}` must be finite, got inf"):
            recipe(**{name: float("inf")})


@given(batch=st.integers(1, 20), rows=st.integers(1, 15), seed=st.integers(0, 3))
def test_every_epoch_sees_every_row_once(batch: int, rows: int, seed: int) -> None:
    drawn = [i for step in range(rows) for i in order(step, batch=batch, rows=rows, seed=seed)]
    for epoch in range(batch):
        assert sorted(drawn[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_a_policy_decides_for_its_batch_and_begins_anew_at_reset(tmp_path: Path) -> None:
    policy = Policy(make_model())
    observation = {name: value[:3] for name, value in EPISODES[0].observations.items()}
    policy.reset(0)
    first = policy.act(observation)
    policy.act(observation)
    policy.reset(0)
    assert first.shape == (3,)
    assert (policy.act(observation) == first).all()


@VNNI
def test_products_in_int8_learn_and_leave_decisions_exact(tmp_path: Path) -> None:
    learned = {}
    for products in (None, "int8"):
        out = tmp_path / str(products)
        model = fit(make_model(), EPISODES, recipe=recipe(products=products, steps=40), out=out)
        learned[products] = weights(out / "best")
        losses = [line["loss"] for line in read_log(out) if "loss" in line]
        assert losses[-1] < 0.9 * losses[0]
        before = accuracy(model)
        with library_training():
            assert accuracy(model) == before
    assert learned[None] != learned["int8"]


def test_products_in_int8_are_refused_where_they_do_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`products` must be None with `quantise`, got 'int8'"):
        recipe(products="int8", quantise="nf4")
    model = make_model()
    for weight in model.backbone.parameters():
        weight.requires_grad_(True)
    with pytest.raises(ValueError, match="`products` must be None for 'tiny-random-llama'"):
        fit(model, EPISODES, recipe=recipe(products="int8"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
    with pytest.raises(ValueError, match=says):
        RunFolder(tmp_path, {"recipe": {}, "spec": {}}, resume=True)


@pytest.mark.parametrize(
    "line", ["[]", '{"loss": 1.0}', '{"step": "2"}', '{"step": NaN}', "[" * 100_000, "\x00"]
)
def test_a_damaged_line_of_a_log_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl:2: "):
        read_log(tmp_path)
