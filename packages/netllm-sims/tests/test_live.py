"""Live sessions: hand calculations, laws for any trace, and the QoE that weighs latency."""

from dataclasses import replace
from math import exp

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from netllm_sims.abr import Session, Simulator, Trace, Video, rollout, setting

RATES_KBPS = (300.0, 1200.0, 4300.0)
CHUNKS = 40


def place(**changes):
    """Half a second per chunk, as many bytes as its rate says, 1.5 s behind the live edge."""
    sizes = np.tile(np.array(RATES_KBPS) * 500 / 8, (CHUNKS + 1, 1))
    video = Video(name="v", rates_kbps=RATES_KBPS, sizes_bytes=sizes, chunk_s=0.5, chunks=CHUNKS)
    changes = {"live_target_s": 1.5, "rtt_s": 0.0, "packet_share": 1.0} | changes
    return setting("synthetic", video=video, **changes)


def steady(mbps):
    return Session("s", Trace("t", np.array([0.0, 100]), np.array([0.0, mbps])))


def outage(seconds):
    """2.4 Mbit/s, but for an outage from 5 s on."""
    times = np.array([0.0, 5, 5 + seconds, 100])
    return Session("o", Trace("o", times, np.array([0.0, 2.4, 0.0, 2.4])))


def test_at_the_live_edge_a_chunk_comes_when_it_has_been_produced(play):
    # 1.2 Mbit/s over 2.4 take 0.25 s, the first chunk of 0.3 Mbit/s takes 1/16 s without playback.
    seen = play(place(catch_up=0), [steady(2.4)], [1] * 20)
    assert seen["delay_s"][0, -1] == pytest.approx([0.25] * 6)
    assert seen["live_latency_s"][0] == pytest.approx([1.5 + 0.0625] * 21)
    assert seen["stall_s"][0] == pytest.approx([0.0625] + [0] * 20)
    # Chunks 1 and 2 are there when the session begins; chunk 3 is at 0.5 s, and here at 0.75 s.
    assert seen["buffer_s"][0, :4] == pytest.approx([0.5, 0.75, 1.0, 1.25])
    assert seen["buffer_s"][0, 5:] == pytest.approx([1.5625 - 0.25] * 16)
    assert seen["speed"] == pytest.approx(np.ones((1, 21)))


def test_a_stall_is_added_to_the_latency_and_caught_up(play):
    seen = {c: play(place(catch_up=c), [outage(4.0)], [1] * 39) for c in (0, 0.5)}
    stalls_s = seen[0]["stall_s"][0]
    assert stalls_s[1:].max() > 2
    assert seen[0]["live_latency_s"][0] == pytest.approx(1.5 + np.cumsum(stalls_s))
    late_s = seen[0.5]["live_latency_s"][0]
    assert late_s.max() > 3.5
    assert late_s[-1] == pytest.approx(1.5, abs=0.1)
    assert 1.2 < seen[0.5]["speed"].max() < 1.5


def test_far_behind_playback_jumps_to_the_target(play):
    late, early = (play(place(skip_s=s), [outage(20.0)], [1] * 39) for s in (30.0, 12.0))
    assert late["live_latency_s"].max() > 15
    assert early["live_latency_s"].max() < 13.5
    step = early["stall_s"][0, 1:].argmax() + 1
    assert early["live_latency_s"][0, step] == 1.5
    assert early["buffer_s"][0, step] == 0  # what had come lies before the target
    assert early["stall_s"][0, step + 1] == pytest.approx(0.25)


def test_speed_is_the_sigmoid_of_latency_and_of_a_short_buffer():
    from netllm_sims.abr.compiled_simulator import playback_speed

    # (1 - c) + 2 c / (1 + e^-5d), with d = 1 s too late, 0.2 s too early, 0.2 s of buffer missing.
    assert playback_speed(1.0, 2.5, 1.5, 0.5) == pytest.approx(0.5 + 1 / (1 + exp(-5)))
    assert playback_speed(1.0, 1.3, 1.5, 0.3) == pytest.approx(0.7 + 0.6 / (1 + exp(1)))
    assert playback_speed(0.3, 9.0, 1.5, 0.5) == pytest.approx(0.5 + 1 / (1 + exp(1)))
    assert playback_speed(1.0, 1.52, 1.5, 0.5) == 1


@st.composite
def sessions(draw):
    steps = draw(st.lists(st.integers(1, 100), min_size=1, max_size=20))
    bandwidth = [draw(st.integers(0, 800)) for _ in steps]
    steps[-1], bandwidth[-1] = max(steps[-1], 10), max(bandwidth[-1], 50)
    time_s = np.concatenate([[0.0], np.cumsum(steps) / 10])
    return Session("s", Trace("t", time_s, np.array([0.0, *bandwidth]) / 100))


@given(
    session=sessions(),
    levels=st.lists(st.integers(0, 2), min_size=CHUNKS - 1, max_size=CHUNKS - 1),
    target_s=st.sampled_from([1.0, 1.5, 4.0]),
    catch_up=st.sampled_from([0.0, 0.3, 0.9]),
    rtt_s=st.sampled_from([0.0, 0.08]),
)
def test_the_clock_of_playback_and_that_of_the_trace_agree(
    session, levels, target_s, catch_up, rtt_s
):
    config = place(live_target_s=target_s, catch_up=catch_up, rtt_s=rtt_s, skip_s=1e9)
    simulator = Simulator(config, [session], dtype=np.float64)
    simulator.reset()
    for chunk, level in enumerate(levels, start=2):
        before_s = simulator.observation["live_latency_s"].item()
        simulator.step(np.array([level]))
        buffer_s, latency_s, speed, stall_s = (
            simulator.observation[name].item()
            for name in ("buffer_s", "live_latency_s", "speed", "stall_s")
        )
        # Nothing comes before it was produced, and no more is held than fits.
        assert buffer_s <= min(latency_s, config.buffer_cap_s) + 1e-9
        assert 1 - catch_up - 1e-9 <= speed <= 1 + catch_up + 1e-9
        assert latency_s <= before_s + stall_s + catch_up * 30
        # The live edge is `latency_s` ahead of the playhead, which is `buffer_s` before the end.
        passed_s = latency_s + chunk * 0.5 - buffer_s - target_s
        off_s = (passed_s - simulator.time_s.item()) % session.trace.period_s
        assert min(off_s, session.trace.period_s - off_s) < 1e-6


def test_the_reward_is_the_published_qoe_over_the_length_of_a_chunk(play):
    # LoL+ in Mbit: D R - R_max stall - |change| - g latency - R_min |1 - speed|, where g is
    # 0.05 R_min up to 1.6 s and 0.1 R_max beyond.
    levels = [1, 2, 0, 1] * 9
    seen = play(place(), [outage(3.0)], levels)
    rate = np.array(RATES_KBPS)[[0, *levels]] / 1000
    late_s, speed = seen["live_latency_s"][0], seen["speed"][0]
    weight = np.where(late_s <= 1.6, 0.05 * 0.3, 0.1 * 4.3)
    published = 0.5 * rate - 4.3 * seen["stall_s"][0] - weight * late_s - 0.3 * abs(1 - speed)
    published[1:] -= abs(np.diff(rate))
    assert (late_s <= 1.6).any()
    assert (late_s > 1.6).any()
    assert seen["reward"][0] == pytest.approx(published / 0.5)


def test_parts_add_up_to_the_reward():
    simulator = Simulator(place(), [outage(3.0)], dtype=np.float64)
    simulator.reset()
    for level in [1, 2, 0, 1] * 9:
        _, reward, _ = simulator.step(np.array([level]))
        assert place().qoe(*simulator.parts.values()) == pytest.approx(reward)


def test_a_session_does_not_depend_on_its_batch(constant):
    config = setting("live", chunks=60)
    some = config.sessions("test")[:3]
    together = rollout(constant(3), config, some)
    alone = [rollout(constant(3), config, [one]) for one in some]
    assert np.array_equal(together.rewards, np.concatenate([one.rewards for one in alone]))
    assert np.array_equal(
        together.live_latency_s, np.concatenate([one.live_latency_s for one in alone])
    )


def test_video_on_demand_shows_nothing_of_it(constant):
    config = setting("synthetic")
    run = rollout(constant(1), config, config.sessions("test")[:1], record=True)
    assert run.live_latency_s is None
    assert run.speed is None
    assert not {"live_latency_s", "speed"} & run.observations.keys()
    assert replace(config, catch_up=0.1).qoe == config.qoe


@pytest.mark.usefixtures("no_data")
def test_the_setting_live_needs_no_data():
    config = setting("live")
    assert config.synthetic
    assert (config.chunk_s, config.chunks, config.live_target_s) == (0.5, 240, 1.5)
    # No more can be there than was produced; weights over chunks of 0.5 s, see above.
    assert (config.buffer_cap_s, config.rebuffering, config.smoothness) == (1.5, 8.6, 2.0)
    one, other = config.sessions("test"), setting("default").sessions("test")
    assert [x.trace.digest for x in one] == [x.trace.digest for x in other]
    changed = setting("live", live_target_s=3, rebuffering=4, chunk_s=1, chunks=100)
    assert (changed.buffer_cap_s, changed.rebuffering, changed.smoothness) == (3, 4, 1)


def test_with_data_only_its_video_is_generated(real_data):
    config = setting("live", data=real_data)
    assert not config.synthetic
    assert [(one.kind, one.origin) for one in config.sources] == [
        ("traces", "published"),
        ("video", "generated"),
    ]
    assert setting("live", data=real_data, video="synthetic").synthetic


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"live_target_s": 0.9}, "at least 1 s, two chunks"),
        ({"live_target_s": -1}, r"must lie in \[0, 60\] s"),
        ({"catch_up": 1.0}, r"must lie in \[0, 1\)"),
        ({"buffer_cap_s": 1.0}, "at least `live_target_s`, 1.5 s, got 1.0"),
        ({"quality": "log"}, "must be 'linear' live"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        setting("live", **wrong)


def test_a_target_below_the_step_in_which_video_on_demand_drains_is_live():
    config = setting("live", live_target_s=0.4, chunk_s=0.2)
    assert config.buffer_cap_s == 0.4 < config.drain_s


def test_the_environment_shows_latency_and_speed():
    env = gymnasium.make("netllm_sims:netllm/ABR-v0", setting="live", chunks=20)
    check_env(env.unwrapped, skip_render_check=True)
    seen, _ = env.reset(seed=1)
    assert seen["live_latency_s"].item() > 1.5
    info = env.step(3)[-1]
    assert info.keys() >= {"live_latency_s", "speed"}
