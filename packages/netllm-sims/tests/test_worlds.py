"""Randomised worlds to learn from."""

import numpy as np
import pytest
from netllm_sims.abr import Session, Simulator, Trace, VectorEnv, Worlds, randomise, setting

FLAT = Trace("flat", np.arange(401.0), np.full(401, 2.0))
STILL = Worlds(
    size=(1, 1), scene=0, own=0, bandwidth=(1, 1), markov=0, stretch=0, noise=0, splice=0
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(worlds: Worlds | str, count: int = 300) -> list[Session]:
    place = setting("synthetic")
    plain = [Session(f"{number}", FLAT, 10.0) for number in range(count)]
    return randomise(plain, plain, place.video, rng(), share=1.0, worlds=worlds)


def test_bandwidth_and_chunk_sizes_lie_within_their_ranges():
    found = drawn(Worlds(scene=0, own=0))
    usual = setting("synthetic").video.sizes_bytes.mean(axis=0)
    factors = np.array([one.video.sizes_bytes[0] / usual for one in found])
    scales = np.array([one.scale for one in found])
    assert (factors.min() >= 0.699, factors.max() <= 1.401) == (True, True)
    assert (factors.min() < 0.75, factors.max() > 1.3) == (True, True)
    assert (scales.min() >= 0.3, scales.max() <= 4.0) == (True, True)
    assert np.median(scales) == pytest.approx((0.3 * 4) ** 0.5, rel=0.2)  # log-uniform


def test_ranges_of_one_point_change_nothing_but_the_course_of_the_sizes():
    found = drawn(STILL, 3)
    usual = setting("synthetic").video.sizes_bytes.mean(axis=0)
    for one in found:
        assert (one.scale, one.start_s) == (1.0, 10.0)
        np.testing.assert_allclose(one.trace.bandwidth_mbps, FLAT.bandwidth_mbps)
        np.testing.assert_allclose(one.video.sizes_bytes, np.tile(usual, (49, 1)), atol=0.5)


def test_scenes_change_all_levels_together_and_own_factors_do_not():
    scenes, own = (
        np.log(drawn(Worlds(size=(1, 1), scene=a, own=b), 1)[0].video.sizes_bytes)
        for a, b in ((0.5, 0), (0, 0.5))
    )
    assert (scenes - scenes.mean(axis=0)).std(axis=1).max() < 1e-4
    assert (own - own.mean(axis=0)).std(axis=1).max() > 0.01


def test_the_share_of_generated_links_is_what_was_asked_for():
    generated = [one.trace.id.startswith("markov of ") for one in drawn(Worlds(markov=0.3))]
    assert np.mean(generated) == pytest.approx(0.3, abs=0.08)


def test_the_same_seed_gives_the_same_worlds():
    def facts(seed: int) -> list[tuple[str, float, str | None]]:
        wide = setting("synthetic", alter=0.5, worlds="wide")
        some = wide.sessions("train", episodes=20, seed=seed)
        return [(one.trace.digest, one.scale, one.video and one.video.digest) for one in some]

    assert facts(1) == facts(1) != facts(2)


def test_plain_sessions_stay_as_they_are_and_only_training_is_randomised():
    plain, wide = setting("synthetic"), setting("synthetic", alter=0.6, worlds="wide")
    train = wide.sessions("train", episodes=300)
    as_they_are = [one.video is None and one.scale == 1.0 for one in train]
    assert np.mean(as_they_are) == pytest.approx(0.4, abs=0.1)
    for part in ("valid", "test"):
        ours = [(one.trace.digest, one.video) for one in wide.sessions(part, episodes=5)]
        assert ours == [(one.trace.digest, None) for one in plain.sessions(part, episodes=5)]


def test_a_batch_plays_every_session_as_it_would_be_played_alone():
    place = setting("synthetic", alter=0.5, worlds="wide")
    sessions = place.sessions("train", episodes=6)
    assert {one.video is None for one in sessions} == {True, False}
    together, alone = Simulator(place, sessions), [Simulator(place, [one]) for one in sessions]
    together.reset()
    for one in alone:
        one.reset()
    for level in (0, 3, 5, 1):
        seen, reward, _ = together.step(np.full(6, level))
        for row, one in enumerate(alone):
            mine, earned, _ = one.step(np.array([level]))
            assert (mine["sizes_mb"][0] == seen["sizes_mb"][row]).all()
            assert earned[0] == reward[row]


def test_a_sessions_own_video_is_downloaded_and_shown():
    place = setting("synthetic")
    (large,) = drawn(Worlds(size=(3, 3), bandwidth=(1, 1), markov=0, noise=0, splice=0), 1)
    simulator = Simulator(place, [Session("plain", FLAT), large], dtype=np.float64)
    seen = simulator.reset()
    sizes = large.video.sizes_bytes
    np.testing.assert_allclose(seen["sizes_mb"][1], sizes[1:7] * 1e-6)
    np.testing.assert_allclose(seen["sizes_mb"][0], place.video.sizes_bytes[1:7] * 1e-6)
    assert seen["delay_s"][1, -1] == pytest.approx(sizes[0, 0] * 8e-6 / (2 * 0.95) + 0.08)
    simulator.assign([Session("plain", FLAT)] * 2)
    np.testing.assert_allclose(simulator.reset()["sizes_mb"][1], seen["sizes_mb"][0])


def test_a_video_of_another_ladder_is_refused(small):
    session = Session("odd", FLAT, video=small.video)
    with pytest.raises(ValueError, match=r"session `odd` must have the ladder.*300.0, 1200.0"):
        Simulator(setting("synthetic"), [session])


def test_environments_play_randomised_worlds_in_training_only():
    for part, expected in (("train", True), ("valid", False)):
        many = VectorEnv("synthetic", part, 20, alter=1.0, worlds="wide")
        assert {one.video is not None for one in many.sessions} == {expected}


def test_worlds_without_a_share_are_refused_as_unknown_names_are():
    with pytest.raises(ValueError, match=r"no session is randomised.*alter=0.65"):
        setting("synthetic", worlds="wide")
    with pytest.raises(ValueError, match=r"`worlds` 'wider'. Did you mean wide"):
        drawn("wider", 1)
    with pytest.raises(ValueError, match=r"`worlds` 'wider'. Did you mean wide"):
        setting("synthetic", worlds="wider", alter=0.5)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("size", (2.0, 1.0), "rise"),
        ("bandwidth", (0.0, 1.0), "rise"),
        ("markov", 1.5, r"lie in \[0, 1\]"),
        ("noise_points", 0, "be at least 1"),
        ("own", -0.1, r"lie in \[0, 3\]"),
        ("noise", float("nan"), r"lie in \[0, 3\]"),
    ],
)
def test_ranges_that_cannot_be_drawn_from_are_refused(field, value, rule):
    with pytest.raises(ValueError, match=f"`{field}` must {rule}"):
        Worlds(**{field: value})
