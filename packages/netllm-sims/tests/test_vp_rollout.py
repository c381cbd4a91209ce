import pickle
from dataclasses import replace

import numpy as np
import pytest
from netllm_sims.session_error import SessionError
from netllm_sims.vp import Clip, Policy, rollout, setting


class Spy:
    """Holds the last viewport and remembers what it saw."""

    def __init__(self, answer=None):
        self.seen, self.seeds, self.answer = [], [], answer

    def reset(self, seed):
        self.seeds.append(seed)

    def act(self, observation):
        self.seen.append(observation)
        held = np.repeat(observation["viewport_deg"][:, -1:], 20, axis=1)
        return held if self.answer is None else self.answer(held)


@pytest.fixture
def clips():
    rng = np.random.default_rng(0)
    return [
        Clip(
            f"d/v{n}/u",
            f"d/v{n}",
            "u",
            *(rng.uniform(-80, 80, (n, k, 3)) for k in (10, 20)),
            time_s=np.arange(n, dtype=float),
        )
        for n in (3, 1, 5)
    ]


@pytest.fixture
def config():
    return setting("synthetic")


@pytest.mark.parametrize("batch", [1, 4, 256])
def test_every_window_is_predicted_once_whatever_the_batch(clips, config, batch):
    spy = Spy()
    run = rollout(spy, config, clips, seed=7, batch=batch)
    assert isinstance(spy, Policy)
    assert spy.seeds == [7]
    assert run.ids == ["d/v3/u", "d/v1/u", "d/v5/u"]
    assert run.decisions == 9
    assert run.seconds > 0
    for clip, predicted in zip(clips, run.predicted_deg, strict=True):
        np.testing.assert_array_equal(predicted, np.repeat(clip.history_deg[:, -1:], 20, axis=1))
    assert max(len(seen["time_s"]) for seen in spy.seen) == min(batch, 9)
    videos = np.concatenate([seen["video"] for seen in spy.seen])
    assert videos.tolist() == ["d/v3"] * 3 + ["d/v1"] + ["d/v5"] * 5
    times_s = np.concatenate([seen["time_s"] for seen in spy.seen])
    assert times_s.tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4]


def broken(held):
    held[2, 3, 1] = np.nan
    return held


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda held: held[:, :19], r"Spy\.act must return viewports of shape \(9, 20, 3\) .*got"),
        (lambda held: held[0], r"got \(20, 3\). Was it made for another horizon"),
        (broken, r"`answer` of Spy.act for clip .* must be finite degrees, .* got nan in window"),
        (lambda held: None, r"of shape \(9, 20, 3\)"),
        (lambda held: held * 1j, r"must return an array of shape .* in degrees, got complex128"),
        (lambda held: held + 1e300, r"finite degrees, at most 1e\+15, got 1e\+300 in window"),
        (lambda held: {"a": 1}, r"must return an array of shape \(9, 20, 3\) in degrees, got dict"),
    ],
)
def test_answers_that_are_none_are_errors(clips, config, answer, message):
    with pytest.raises(ValueError, match=message):
        rollout(Spy(answer), config, clips)


def test_no_clips_and_no_batch_are_errors(clips, config):
    with pytest.raises(ValueError, match="at least one clip, got none"):
        rollout(Spy(), config, [])
    with pytest.raises(ValueError, match="`batch` must be at least 1, got 0"):
        rollout(Spy(), config, clips, batch=0)


def test_one_clip_that_is_not_finite_is_named(config, clips):
    history = clips[2].history_deg.copy()
    history[1, 4, 0] = np.nan
    broken = [*clips[:2], replace(clips[2], history_deg=history)]
    with pytest.raises(SessionError, match=r"`history_deg` of clip `d/v5/u`.*window 1") as error:
        rollout(Spy(), config, broken)
    assert (error.value.session, error.value.field) == ("d/v5/u", "history_deg")


def test_one_answer_that_is_not_finite_is_named(config, clips):
    def answer(held):
        held = held.copy()
        held[4] = np.inf
        return held

    with pytest.raises(SessionError) as error:
        rollout(Spy(answer), config, clips)
    assert (error.value.session, error.value.field) == ("d/v5/u", "answer")
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.session) == (str(error.value), "d/v5/u")
