import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from netllm_sims.abr import Session, Simulator, Trace, Video, rollout, setting

CHUNKS = 20
RATES_KBPS = (300.0, 1200.0, 4300.0)


def small_video():
    """Sizes with a fraction that no sum of payloads of the traces below has: no ties."""
    rng = np.random.default_rng(7)
    sizes = np.array(RATES_KBPS) * 500 * rng.uniform(0.8, 1.2, (CHUNKS + 1, 1))
    return Video(name="v", rates_kbps=RATES_KBPS, sizes_bytes=np.floor(sizes) + 0.3, chunks=CHUNKS)


SETTING = setting("synthetic", video=small_video())


@st.composite
def trace(draw):
    """A trace of steps from 0.1 to 20 s and 0 to 12 Mbit/s, with outages but not only these."""
    steps = draw(st.lists(st.integers(1, 200), min_size=1, max_size=40))
    bandwidth = [draw(st.integers(0, 1200)) for _ in steps]
    steps[-1], bandwidth[-1] = max(steps[-1], 10), max(bandwidth[-1], 50)
    time_s = np.concatenate([[0.0], np.cumsum(steps) / 10])
    return Trace("t", time_s, np.array([0.0, *bandwidth]) / 100)


@st.composite
def session(draw):
    path = draw(trace())
    pointer = draw(st.integers(1, len(path.time_s) - 1))
    scale = draw(st.sampled_from([1.0, 0.6, 1.6]))
    return Session("s", path, float(path.time_s[pointer - 1]), scale)


actions = st.lists(st.integers(0, 2), min_size=CHUNKS - 1, max_size=CHUNKS - 1)
knobs = st.fixed_dictionaries(
    {
        "latency_s": st.sampled_from([0.0, 0.7]),
        "rtt_s": st.sampled_from([0.08, 0.0]),
        "buffer_cap_s": st.sampled_from([60.0, 9.0]),
        "packet_share": st.sampled_from([0.95, 1.0]),
        "rebuffering": st.sampled_from([4.3, 1.0]),
    }
)


def play(config, sessions, levels, dtype=np.float64):
    """All observations of a run, stacked: the first after the start-up chunk."""
    simulator = Simulator(config, sessions, dtype=dtype)
    seen = [{k: v.copy() for k, v in simulator.reset().items()}]
    for step in levels:
        simulator.step(np.full(len(sessions), step))
        seen.append({k: v.copy() for k, v in simulator.observation.items()})
    return {name: np.stack([one[name] for one in seen], axis=1) for name in seen[0]}


@given(session(), actions, knobs)
def test_every_chunk_is_as_in_the_reference(one, levels, changes):
    from reference_player import ReferencePlayer

    config = replace(SETTING, **changes)
    pointer = int(np.searchsorted(one.trace.time_s, one.start_s)) + 1
    player = ReferencePlayer(
        one.trace.time_s, one.trace.bandwidth_mbps, pointer, scale=one.scale, setting=config
    )
    seen = play(config, [one], levels)
    for chunk, level in enumerate([0, *levels]):
        wanted = player.download(level, latency_s=config.latency_s if chunk else 0.0)
        got = {name: seen[name][0, chunk] for name in ("reward", "stall_s", "buffer_s")}
        got["delay_s"] = seen["delay_s"][0, chunk, -1]
        assert got == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def delivered(path, begin_s, end_s, share):
    """Bytes that a link delivers between two times, added up segment by segment."""
    total, at = 0.0, begin_s
    while at < end_s:
        lap, inside = divmod(at, path.period_s)
        segment = int(np.searchsorted(path.time_s[1:], inside, side="right")) + 1
        if segment == len(path.time_s):
            at = (lap + 1) * path.period_s
            continue
        until = min(lap * path.period_s + path.time_s[segment], end_s)
        if until <= at:  # rounding put us a hair before the edge
            until = min(np.nextafter(at, np.inf) + 1e-9, end_s)
        total += path.bandwidth_mbps[segment] * 125_000 * share * (until - at)
        at = until
    return total


@given(session(), actions)
def test_bytes_are_conserved(one, levels):
    config = replace(SETTING, buffer_cap_s=1e9)
    seen = play(config, [one], levels)
    link_s = seen["delay_s"][0, :, -1] - config.rtt_s
    bytes_asked = sum(
        config.video.sizes_bytes[k][level] for k, level in enumerate([0, *levels])
    )
    end_s = one.start_s + link_s.sum()
    given_bytes = one.scale * delivered(one.trace, one.start_s, end_s, config.packet_share)
    assert given_bytes == pytest.approx(bytes_asked, rel=1e-6)


@given(session(), actions, knobs)
def test_time_never_runs_back_and_the_buffer_stays_in_bounds(one, levels, changes):
    config = replace(SETTING, **changes)
    simulator = Simulator(config, [one], dtype=np.float64)
    simulator.reset()
    for level in levels:
        before_s = simulator.time_s[0]
        buffer_before_s = simulator.observation["buffer_s"][0]
        seen, _, _ = simulator.step(np.array([level]))
        link_s = seen["delay_s"][0, -1] - config.rtt_s
        assert link_s >= 0
        assert 0 <= simulator.time_s[0] < one.trace.period_s
        assert 0 < seen["buffer_s"][0] <= config.buffer_cap_s
        # playback and pauses take what the buffer lost, in whole drain steps
        full_s = max(buffer_before_s - seen["delay_s"][0, -1] - config.latency_s, 0) + 4
        paused_s = full_s - seen["buffer_s"][0]
        assert paused_s / config.drain_s == pytest.approx(round(paused_s / config.drain_s), abs=1e-6)
        moved_s = (simulator.time_s[0] - before_s) % one.trace.period_s
        wanted_s = (link_s + paused_s + config.latency_s) % one.trace.period_s
        gap_s = abs(moved_s - wanted_s)
        assert min(gap_s, one.trace.period_s - gap_s) < 1e-6


@given(st.lists(session(), min_size=2, max_size=5), actions, knobs)
def test_a_session_plays_the_same_alone_and_in_a_batch(sessions, levels, changes):
    config = replace(SETTING, **changes)
    together = play(config, sessions, levels)
    for number, one in enumerate(sessions):
        alone = play(config, [one], levels)
        for name, values in alone.items():
            np.testing.assert_array_equal(values[0], together[name][number])


@given(session(), actions)
def test_float32_differs_by_rounding_only(one, levels):
    exact = play(SETTING, [one], levels)
    for name, values in play(SETTING, [one], levels, np.float32).items():
        assert values.dtype == (np.int64 if name == "level" else np.float32)
        np.testing.assert_allclose(values, exact[name], rtol=1e-5, atol=1e-5)


def test_a_fine_trace_is_searched_over_many_segments_and_periods():
    from reference_player import ReferencePlayer

    rng = np.random.default_rng(1)
    time_s = np.concatenate([[0.0], np.cumsum(rng.integers(1, 4, 3000) / 100)])
    one = Session("fine", Trace("t", time_s, rng.integers(0, 300, 3001) / 100), float(time_s[2500]))
    player = ReferencePlayer(time_s, one.trace.bandwidth_mbps, 2501, setting=SETTING)
    levels = rng.integers(0, 3, CHUNKS - 1)
    seen = play(SETTING, [one], levels)
    wanted = [player.download(level)["delay_s"] for level in (0, *levels)]
    assert sum(wanted) > 2 * one.trace.period_s
    assert seen["delay_s"][0, :, -1] == pytest.approx(wanted, rel=1e-9)


def test_the_observation_is_what_its_table_says():
    steady = Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, 2])))
    seen = play(SETTING, [steady], [2, 1, 1])
    sizes = SETTING.video.sizes_bytes
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


def test_sizes_past_the_played_chunks_are_shown_and_past_the_table_are_zero():
    steady = Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, 5])))
    seen = play(SETTING, [steady], [0] * (CHUNKS - 1))
    last = seen["sizes_mb"][0, -2]
    assert last[:2] == pytest.approx(SETTING.video.sizes_bytes[-2:] / 1e6)
    assert not last[2:].any()
    assert seen["chunks_left"][0, -2:].tolist() == [1, 0]


def test_parts_add_up_to_the_reward():
    steady = Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, 0.4])))
    simulator = Simulator(SETTING, [steady], dtype=np.float64)
    simulator.reset()
    for level in (2, 0, 1):
        _, reward, _ = simulator.step(np.array([level]))
        assert SETTING.qoe(*simulator.parts.values()) == pytest.approx(reward)
    assert simulator.parts["smoothness_mbps"] == pytest.approx([0.9])
    assert simulator.parts["rebuffer_s"][0] > 0


def test_latency_drains_the_buffer_and_moves_the_trace():
    steady = Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, 2])))
    swift, slow = (
        play(replace(SETTING, latency_s=wait), [steady], [1, 1]) for wait in (0.0, 0.5)
    )
    assert slow["delay_s"] == pytest.approx(swift["delay_s"])
    assert slow["buffer_s"][0, 0] == swift["buffer_s"][0, 0]
    assert swift["buffer_s"][0] - slow["buffer_s"][0] == pytest.approx([0, 0.5, 1.0])


def test_delay_noise_follows_seed_and_session_whatever_the_batch():
    paths = [Trace(f"t{k}", np.array([0.0, 100]), np.array([0.0, 2 + k])) for k in range(3)]
    sessions = [Session(path.id, path) for path in paths]
    noisy = replace(SETTING, delay_noise=0.1)

    def delays(config, chosen, seed):
        simulator = Simulator(config, chosen, dtype=np.float64)
        simulator.reset(seed)
        return np.stack(
            [simulator.step(np.zeros(len(chosen), int))[0]["delay_s"][:, -1].copy() for _ in range(9)]
        )

    plain, first = delays(SETTING, sessions, 1), delays(noisy, sessions, 1)
    ratio = first / plain
    assert 0.9 <= ratio.min() < 0.95
    assert 1.05 < ratio.max() <= 1.1
    np.testing.assert_array_equal(delays(noisy, sessions[1:2], 1), first[:, 1:2])
    assert not (delays(noisy, sessions, 2) == first).any()


def test_the_last_step_ends_all_sessions_and_no_step_follows():
    sessions = SETTING.sessions("test", episodes=3)
    simulator = Simulator(SETTING, sessions)
    with pytest.raises(RuntimeError, match="Call `reset`"):
        simulator.step(np.zeros(3, int))
    simulator.reset()
    ends = [simulator.step(np.zeros(3, int))[2].tolist() for _ in range(CHUNKS - 1)]
    assert ends == [[False] * 3] * (CHUNKS - 2) + [[True] * 3]
    with pytest.raises(RuntimeError, match="over or not begun"):
        simulator.step(np.zeros(3, int))
    assert simulator.chunk == CHUNKS


def test_a_level_off_the_ladder_changes_nothing():
    simulator = Simulator(SETTING, SETTING.sessions("test", episodes=3))
    simulator.reset()
    before = {name: value.copy() for name, value in simulator.observation.items()}
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=f"between 0 and 2, got {wrong} for session `test-002`"):
            simulator.step(np.array([1, 2, wrong]))
    for name, value in before.items():
        np.testing.assert_array_equal(simulator.observation[name], value)


@pytest.mark.parametrize("wrong", [np.zeros(2, int), np.zeros((3, 1), int)])
def test_there_must_be_one_level_per_session(unchecked_shapes, wrong):
    simulator = Simulator(SETTING, SETTING.sessions("test", episodes=3))
    simulator.reset()
    with pytest.raises(ValueError, match=r"one integer per session, shape \(3,\)"):
        simulator.step(wrong)


def test_levels_must_be_integers(unchecked_shapes):
    simulator = Simulator(SETTING, SETTING.sessions("test", episodes=3))
    simulator.reset()
    with pytest.raises(ValueError, match="one integer per session"):
        simulator.step(np.ones(3))


def test_a_simulator_needs_sessions_and_a_float_type():
    with pytest.raises(ValueError, match="at least 1"):
        Simulator(SETTING, [])
    with pytest.raises(ValueError, match="float32 or float64"):
        Simulator(SETTING, SETTING.sessions("test"), dtype=np.int64)
    simulator = Simulator(SETTING, SETTING.sessions("test", episodes=2))
    with pytest.raises(ValueError, match="2 sessions, got 3"):
        simulator.assign(SETTING.sessions("test", episodes=3))


def test_assigned_sessions_play_as_in_a_new_simulator():
    first, second = SETTING.sessions("test"), SETTING.sessions("valid", episodes=100)
    used, new = Simulator(SETTING, first), Simulator(SETTING, second)
    used.reset()
    used.assign(second)
    np.testing.assert_array_equal(used.reset()["reward"], new.reset()["reward"])


@pytest.mark.parametrize("wrong", [{"start_s": -1.0}, {"start_s": 5.0}, {"scale": 0.0}])
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
