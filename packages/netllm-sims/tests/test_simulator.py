import json
from dataclasses import replace

import numpy as np
import pytest
from netllm_sims.abr import Session, Simulator, Trace, rollout, setting


def test_the_observation_is_what_its_table_says(small, play):
    steady = Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, 2])))
    seen = play(small, [steady], [2, 1, 1])
    sizes = small.video.sizes_bytes
    delays = sizes[[0, 1, 2, 3], [0, 2, 1, 1]] / (2e6 / 8 * 0.95) + 0.08
    assert seen["delay_s"][0, 3] == pytest.approx([0, 0, *delays])
    asked = np.array([sizes[0, 0], sizes[1, 2], sizes[2, 1], sizes[3, 1]])
    assert seen["throughput_mbps"][0, 3] == pytest.approx([0, 0, *(asked * 8e-6 / delays)])
    assert seen["sizes_mb"][0, 3] == pytest.approx(sizes[4:10] / 1e6)
    assert seen["rate_kbps"][0].tolist() == [300, 4300, 1200, 1200]
    assert seen["level"][0].tolist() == [0, 2, 1, 1]
    assert seen["chunks_left"][0].tolist() == [19, 18, 17, 16]
    assert seen["stall_s"][0, 0] == pytest.approx(delays[0])
    assert seen["buffer_s"][0, 1] == pytest.approx(max(4 - delays[1], 0) + 4)
    assert seen["reward"][0, 1] == pytest.approx(4.3 - 4.3 * max(delays[1] - 4, 0) - 4)


def test_the_observation_is_read_only(small):
    simulator = Simulator(small, small.sessions("test", episodes=2))
    for seen in (simulator.reset(), simulator.step(np.zeros(2, int))[0], simulator.observation):
        for values in seen.values():
            with pytest.raises(ValueError, match="read-only"):
                values[:] = 0


def test_sizes_past_the_played_chunks_are_shown_and_past_the_table_are_zero(small, play):
    steady = Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, 5])))
    seen = play(small, [steady], [0] * 19)
    last = seen["sizes_mb"][0, -2]
    assert last[:2] == pytest.approx(small.video.sizes_bytes[-2:] / 1e6)
    assert not last[2:].any()
    assert seen["chunks_left"][0, -2:].tolist() == [1, 0]


def test_parts_add_up_to_the_reward(small):
    steady = Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, 0.4])))
    simulator = Simulator(small, [steady], dtype=np.float64)
    simulator.reset()
    for level in (2, 0, 1):
        _, reward, _ = simulator.step(np.array([level]))
        assert small.qoe(*simulator.parts.values()) == pytest.approx(reward)
    assert simulator.parts["smoothness_mbps"] == pytest.approx([0.9])
    assert simulator.parts["rebuffer_s"][0] > 0


def test_latency_drains_the_buffer_and_moves_the_trace(small, play):
    steady = Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, 2])))
    swift, slow = (play(replace(small, latency_s=wait), [steady], [1, 1]) for wait in (0.0, 0.5))
    assert slow["delay_s"] == pytest.approx(swift["delay_s"])
    assert slow["buffer_s"][0, 0] == swift["buffer_s"][0, 0]
    assert swift["buffer_s"][0] - slow["buffer_s"][0] == pytest.approx([0, 0.5, 1.0])


def test_delay_noise_follows_seed_and_session_whatever_the_batch(small):
    paths = [Trace(f"t{k}", np.array([0.0, 100]), np.array([0.0, 2 + k])) for k in range(3)]
    sessions = [Session(path.id, path) for path in paths]
    plain = replace(small, rtt_s=5.0)  # the noise concerns the round trip too
    noisy = replace(plain, delay_noise=0.1)

    def delays(config, chosen, seed):
        simulator = Simulator(config, chosen, dtype=np.float64)
        simulator.reset(seed)
        return np.stack(
            [
                simulator.step(np.zeros(len(chosen), int))[0]["delay_s"][:, -1].copy()
                for _ in range(9)
            ]
        )

    first = delays(noisy, sessions, 1)
    ratio = first / delays(plain, sessions, 1)
    assert 0.9 <= ratio.min() < 0.95
    assert 1.05 < ratio.max() <= 1.1
    np.testing.assert_array_equal(delays(noisy, sessions[1:2], 1), first[:, 1:2])
    assert not (delays(noisy, sessions, 2) == first).any()


def test_the_last_step_ends_all_sessions_and_no_step_follows(small):
    sessions = small.sessions("test", episodes=3)
    simulator = Simulator(small, sessions)
    with pytest.raises(RuntimeError, match="Call `reset`"):
        simulator.step(np.zeros(3, int))
    simulator.reset()
    ends = [simulator.step(np.zeros(3, int))[2].tolist() for _ in range(19)]
    assert ends == [[False] * 3] * 18 + [[True] * 3]
    with pytest.raises(RuntimeError, match="over or not begun"):
        simulator.step(np.zeros(3, int))
    assert simulator.chunk == 20


def test_the_memory_layout_of_the_sizes_is_of_no_matter(small, play):
    sessions = small.sessions("test", episodes=3)
    columns = replace(small.video, sizes_bytes=np.asfortranarray(small.video.sizes_bytes))
    ours, theirs = (
        play(replace(small, video=video), sessions, [2, 1, 0]) for video in (small.video, columns)
    )
    np.testing.assert_array_equal(ours["delay_s"], theirs["delay_s"])


def test_a_level_off_the_ladder_changes_nothing(small):
    simulator = Simulator(small, small.sessions("test", episodes=3))
    simulator.reset()
    before = {name: value.copy() for name, value in simulator.observation.items()}
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=f"0 and 2, got {wrong} for session `test-002`"):
            simulator.step(np.array([1, 2, wrong]))
    for name, value in before.items():
        np.testing.assert_array_equal(simulator.observation[name], value)


@pytest.mark.parametrize("wrong", [np.zeros(2, int), np.zeros((3, 1), int)])
def test_there_must_be_one_level_per_session(small, unchecked_shapes, wrong):
    simulator = Simulator(small, small.sessions("test", episodes=3))
    simulator.reset()
    with pytest.raises(ValueError, match=r"one integer per session, shape \(3,\)"):
        simulator.step(wrong)


def test_levels_must_be_integers(small, unchecked_shapes):
    simulator = Simulator(small, small.sessions("test", episodes=3))
    simulator.reset()
    with pytest.raises(ValueError, match="one integer per session"):
        simulator.step(np.ones(3))


@pytest.mark.parametrize("period_s", [1.1, 1.7, 8.0])
def test_the_slowest_link_that_is_legal_ends(small, play, period_s):
    # by hand: 1e9 bytes at 1 bit/s or 1 byte per period, of which 1 % is left, and 1e-4 of that
    mbps = max(8e-6 / period_s, 1e-6) * (1 + 1e-9)
    path = Trace("slow", np.array([0.0, period_s]), np.full(2, mbps))
    huge = replace(small.video, sizes_bytes=np.full((20, 3), 1e9))
    config = replace(small, video=huge, packet_share=0.01)
    seen = play(config, [Session("s", path, scale=1e-4)], [0, 1, 2])
    wanted_s = 1e9 / (mbps * 1e6 / 8 * 0.01 * 1e-4)
    assert seen["delay_s"][0, -1, -4:] == pytest.approx([wanted_s] * 4)


def test_the_finest_drain_that_is_legal_is_exact(small, play):
    swift = [Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, 1e3])))]
    fine = play(replace(small, buffer_cap_s=9.0, drain_s=1e-6), swift, [0, 0, 0])
    assert fine["buffer_s"][0, -1] == pytest.approx(9.0, abs=2e-6)


def test_a_simulator_needs_sessions_and_a_float_type(small):
    with pytest.raises(ValueError, match="at least 1"):
        Simulator(small, [])
    with pytest.raises(ValueError, match="float32 or float64"):
        Simulator(small, small.sessions("test"), dtype=np.int64)
    simulator = Simulator(small, small.sessions("test", episodes=2))
    with pytest.raises(ValueError, match="2 sessions, got 3"):
        simulator.assign(small.sessions("test", episodes=3))


def test_assigned_sessions_play_as_in_a_new_simulator(small):
    first, second = small.sessions("test"), small.sessions("valid", episodes=100)
    used, new = Simulator(small, first), Simulator(small, second)
    used.reset()
    used.assign(second)
    np.testing.assert_array_equal(used.reset()["reward"], new.reset()["reward"])


@pytest.mark.parametrize(
    "wrong", [{"start_s": -1.0}, {"start_s": 5.0}, {"scale": 0.0}, {"scale": 1e-300}]
)
def test_a_session_starts_within_its_period_at_a_positive_scale(wrong):
    path = Trace("t", np.array([0.0, 5]), np.array([1.0, 1]))
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Session("s", path, **wrong)


def test_buffer_based_matches_the_published_number_on_every_trace(real_data, buffer_based):
    oracle = real_data.parent / "oracle" / "reference.json"
    if not oracle.is_file():
        pytest.skip(f"the published per-trace numbers are not at {oracle}")
    published = json.loads(oracle.read_text())["abr"]["qoe_per_chunk_chunks_2_to_48"]["bba"]
    config = setting("default", data=real_data)
    played = rollout(buffer_based, config, config.sessions("test"))
    assert dict(zip(played.ids, played.qoe, strict=True)) == pytest.approx(
        published["per_trace"], abs=1e-6
    )
    assert played.qoe.mean() == pytest.approx(0.764151, abs=1e-6)  # ORACLES.md
    parts = published["breakdown"]
    assert played.bitrate_mbps.mean() == pytest.approx(parts["bitrate_mbps"], abs=1e-6)
    assert played.rebuffer_s.mean() == pytest.approx(parts["rebuf_s"], abs=1e-6)
    assert played.smoothness_mbps.mean() == pytest.approx(parts["smooth_mbps"], abs=1e-6)
