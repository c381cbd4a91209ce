"""Altered training traces."""

import numpy as np
import pytest
from netllm_sims.abr import Session, Trace, alter, rollout, setting
from netllm_sims.abr.trace_augmentation import SCALES

LINE = Trace("line", np.arange(101.0), np.linspace(1.0, 3.0, 101))
STEP = Trace("step", np.arange(401.0), np.full(401, 50.0))


def test_without_noise_or_splice_only_time_is_stretched() -> None:
    session = Session("a", LINE, 10.0)
    altered = alter(session, [session], np.random.default_rng(0), noise=0.0, splice_share=0.0)
    factor = altered.trace.time_s[1]
    assert np.exp(-0.5) <= factor <= np.exp(0.5)
    np.testing.assert_allclose(altered.trace.time_s, LINE.time_s * factor)
    np.testing.assert_allclose(altered.trace.bandwidth_mbps, LINE.bandwidth_mbps)
    assert altered.start_s == pytest.approx(10.0 * factor)


def test_a_spliced_trace_goes_over_into_another_after_the_start() -> None:
    session, other = Session("a", LINE, 10.0), Session("b", STEP)
    rng = np.random.default_rng(0)
    many = [alter(session, [other], rng, noise=0.0, splice_share=1.0) for _ in range(20)]
    spliced = [s.trace for s in many if (s.trace.bandwidth_mbps == 50.0).any()]
    assert spliced
    for trace in spliced:
        cut = int(np.argmax(trace.bandwidth_mbps == 50.0))
        np.testing.assert_allclose(trace.bandwidth_mbps[:cut], LINE.bandwidth_mbps[:cut])
        assert (trace.bandwidth_mbps[cut:] == 50.0).all()
        assert (np.diff(trace.time_s) > 0).all()


def test_the_noise_leaves_the_mean_bandwidth_as_it_is() -> None:
    session, rng = Session("b", STEP), np.random.default_rng(1)
    means = [
        alter(session, [session], rng, splice_share=0.0).trace.bandwidth_mbps.mean()
        for _ in range(300)
    ]
    assert np.mean(means) == pytest.approx(50.0, rel=0.02)


def test_only_random_training_sessions_are_altered() -> None:
    plain, altered = setting("synthetic"), setting("synthetic", alter=1.0)
    known = {session.trace.digest for session in plain.sessions("train")}
    drawn = altered.sessions("train", episodes=30, seed=0)
    assert all(session.trace.digest not in known for session in drawn)
    assert all(SCALES[0] <= session.scale <= SCALES[1] for session in drawn)
    for part in ("valid", "test"):
        ours = [s.trace.digest for s in altered.sessions(part, episodes=5)]
        assert ours == [s.trace.digest for s in plain.sessions(part, episodes=5)]


def test_a_share_of_altered_sessions_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`alter` must lie in \[0, 1\], got 2"):
        setting("synthetic", alter=2.0)


class Half:
    """Takes the lowest level; says that the two lowest are as good."""

    def reset(self, seed: int) -> None:
        """It keeps nothing."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.zeros(len(observation["level"]), np.int64)

    def probabilities(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.tile([0.5, 0.5, 0.0, 0.0, 0.0, 0.0], (len(observation["level"]), 1))


def test_soft_labels_are_the_label_policys_probabilities() -> None:
    place = setting("synthetic")
    sessions = place.sessions("test", episodes=2)
    hard = rollout(Half(), place, sessions, label=Half())
    soft = rollout(Half(), place, sessions, label=Half(), soft=True)
    assert hard.labels is not None
    assert (hard.labels == 0).all()
    assert soft.labels is not None
    assert soft.labels.shape == (2, 47, 6)
    assert (soft.labels == [0.5, 0.5, 0.0, 0.0, 0.0, 0.0]).all()
