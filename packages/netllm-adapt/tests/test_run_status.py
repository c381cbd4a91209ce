"""How runs stand, told from their folders alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from netllm_adapt import AdaptedModel, fit
from netllm_adapt.files.locks import locked
from netllm_adapt.training.run_status import find_runs, read_status
from training_parts import EPISODES, make_model, recipe

pytestmark = pytest.mark.usefixtures("registered_parts")


def figure(model: AdaptedModel) -> dict[str, float]:
    return {"score": 2.5, "other": 1.0}


def test_a_run_is_running_then_finished(tmp_path: Path) -> None:
    seen = []

    def look(model: AdaptedModel) -> dict[str, float]:
        seen.append(read_status(tmp_path))
        return figure(model)

    fit(make_model(), EPISODES, recipe=recipe(log_every=1), out=tmp_path, validate=look)
    first, last = seen[0], seen[-1]
    steps = recipe().steps
    assert (first.state, first.best, first.error) == ("running", {}, "")
    assert first.step < last.step == steps
    assert "process" in first.writer
    assert first.seconds_left is not None
    assert first.seconds_left > 0
    assert list(last.best) == ["score", "other"]
    done = read_status(tmp_path)
    assert (done.state, done.step, done.steps) == ("finished", steps, steps)
    assert (done.seconds_left, done.writer) == (None, "")
    assert done.best == {"score": 2.5, "other": 1.0}


def test_a_run_that_failed_tells_why_until_it_goes_on(tmp_path: Path) -> None:
    def refuse(model: AdaptedModel) -> dict[str, float]:
        raise OSError("the cable was cut")

    with pytest.raises(OSError, match="cable"):
        fit(make_model(), EPISODES, recipe=recipe(log_every=1), out=tmp_path, validate=refuse)
    status = read_status(tmp_path)
    assert (status.state, status.error) == ("stopped", "OSError: the cable was cut")
    assert 0 < status.step < status.steps
    fit(make_model(), EPISODES, recipe=recipe(log_every=1), out=tmp_path, resume=True)
    assert (read_status(tmp_path).state, read_status(tmp_path).error) == ("finished", "")


def test_the_time_left_is_counted_since_the_clock_began_anew(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fit(make_model(), EPISODES, recipe=recipe(log_every=1), out=tmp_path, validate=_stop)
    lines = [(1, 50.0), (2, 99.0), (3, 1.0), (4, 3.0)]  # resumed after step 2
    text = "".join(f'{{"step": {s}, "loss": 1.0, "seconds": {t}}}\n' for s, t in lines)
    (tmp_path / "log.jsonl").write_text(text)
    assert read_status(tmp_path).seconds_left == 2.0 * (recipe().steps - 4)


def _stop(model: AdaptedModel) -> dict[str, float]:
    raise RuntimeError("stop")


def test_who_signed_and_is_gone_writes_no_more(tmp_path: Path) -> None:
    fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path)
    with locked(tmp_path):
        sign = (tmp_path / ".writer.json").read_bytes()
    (tmp_path / ".writer.json").write_bytes(sign)
    (tmp_path / "finished.json").unlink()
    assert read_status(tmp_path).state == "stopped"


def test_runs_are_found_at_any_depth_and_none_within_another(tmp_path: Path) -> None:
    for name in ("b", "a/deep"):
        fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path / name)
    assert list(find_runs(tmp_path)) == [tmp_path / "a/deep", tmp_path / "b"]
    assert list(find_runs(tmp_path / "b")) == [tmp_path / "b"]
    with pytest.raises(FileNotFoundError, match="is no folder"):
        list(find_runs(tmp_path / "nowhere"))
