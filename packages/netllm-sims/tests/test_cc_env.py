import warnings

import gymnasium
import netllm_sims
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from netllm_sims.abr import Trace
from netllm_sims.cc import (
    FACTORS,
    UNLIMITED,
    Link,
    Senders,
    Simulator,
    nearest,
    rollout,
    setting,
    utility,
)


def steady(mbps=12.0, **changes):
    """A link of constant capacity: 12 Mbit/s and 50 ms are 50 packets in flight."""
    trace = Trace("steady", np.array([0.0, 60.0]), np.array([mbps, mbps]))
    return Link(id="steady", trace=trace, **({"rtt_ms": 50.0} | changes))


def run(link, actions):
    """The simulator, after the same action in every interval where one is given for all."""
    simulator = Simulator([link], len(actions), dtype=np.float64)
    simulator.reset()
    for action in actions:
        simulator.step(np.array([action]))
    return simulator


def test_a_rate_above_the_capacity_fills_the_buffer_and_loses_the_rest():
    simulator = run(steady(buffer_packets=50.0), [(18.0, UNLIMITED)] * 60)
    seen = simulator.observation
    assert seen["throughput_mbps"][0, -1] == pytest.approx(12.0)
    assert seen["loss"][0, -1] == pytest.approx(1 / 3)
    assert seen["rtt_ms"][0, -1] == pytest.approx(100.0)  # 50 packets wait 50 ms at 1,000 a second
    assert simulator.queue_packets[0] == pytest.approx(50.0)
    assert simulator.lost_mbps[0] == pytest.approx(6.0)
    assert seen["send_ratio"][0, -1] == pytest.approx(18 / 12)
    assert seen["throughput_ratio"][0, -1] == pytest.approx(12 / 18)
    # (12 - 5 x 6) / 12 x 1.25 x 50 / 100
    assert seen["reward"][0] == pytest.approx(-1.5 * 0.625)


def test_round_trips_grow_by_what_is_sent_beyond_the_capacity():
    seen = run(steady(buffer_packets=500.0), [(15.0, UNLIMITED)] * 20).observation
    # what is sent in a second waits up to 0.25 s, and takes 1.25 s to be carried
    assert seen["rtt_gradient"][0, -1] == pytest.approx(0.25 / 1.25)
    seen = run(steady(), [(6.0, UNLIMITED)] * 2).observation
    for name in ("rtt_gradient", "send_ratio", "throughput_ratio"):
        assert not seen[name][0, :-2].any()


def test_ratios_are_finite_where_nothing_is_acknowledged():
    seen = run(steady(), [(6.0, UNLIMITED)]).observation
    assert seen["throughput_mbps"][0, -1] == 0
    assert (seen["send_ratio"][0, -1], seen["throughput_ratio"][0, -1]) == (10, 0)


def test_a_window_of_one_bdp_fills_the_link_and_no_queue():
    simulator = run(steady(), [(UNLIMITED, 50.0)] * 40)
    seen = simulator.observation
    assert seen["throughput_mbps"][0, -1] == pytest.approx(12.0)
    assert seen["inflight_packets"][0] == pytest.approx(50.0)
    assert seen["inflation"][0, -1] == pytest.approx(0.0, abs=1e-9)
    assert seen["reward"][0] == pytest.approx(1.0)


def test_losses_by_chance_are_as_frequent_as_said():
    link = steady(mbps=100.0, loss=0.02, seed=1)
    figures = rollout(Always(4.0), setting("synthetic", intervals=2_000), [link])
    assert figures["loss"][0] == pytest.approx(0.02, rel=0.2)
    assert figures["throughput_mbps"][0] == pytest.approx(4.0 * 0.98, rel=0.01)
    assert figures["rtt95_ms"][0] == pytest.approx(50.0)


class Always:
    """Sends at one rate for ever."""

    def __init__(self, mbps):
        self.mbps = mbps

    def reset(self, seed):
        pass

    def act(self, observation):
        return np.tile([self.mbps, UNLIMITED], (len(observation["rate_mbps"]), 1))


def test_jains_index_is_one_for_equals_and_half_where_one_of_two_gets_nothing():
    place = setting("synthetic", intervals=400)
    alone = rollout(Always(4.0), place, [steady()])
    starved = rollout(Always(0.1), place, [steady(competitors=(0,))])
    half = rollout(Always(6.0), place, [steady(competitors=(0,))])
    assert alone["fairness"][0] == 1.0
    assert starved["fairness"][0] == pytest.approx(0.5, abs=0.02)
    assert half["fairness"][0] == pytest.approx(1.0, abs=0.03)


def test_a_cubic_competitor_alone_fills_the_link():
    link = steady(competitors=(0,), buffer_packets=50.0)
    simulator = run(link, [(0.01, 1.0)] * 800)
    carried = simulator.delivered_bytes(800)[0] * 8e-6 / (800 * link.interval_s)
    assert carried[1] == pytest.approx(12.0, rel=0.1)


def test_factors_change_the_rate_and_rates_become_factors():
    simulator = Simulator([steady()], 5, dtype=np.float64)
    before = simulator.reset()["rate_mbps"][0]
    assert before == pytest.approx(10 * 12_000 / 50e3)
    simulator.step(np.array([FACTORS.index(1.5)]))
    assert simulator.observation["rate_mbps"][0] == pytest.approx(1.5 * before)
    closest = nearest(
        np.array([[5.3, UNLIMITED], [100.0, 25.0]]), np.full(2, 6.0), np.full(2, 50.0)
    )
    assert [FACTORS[k] for k in closest] == [0.85, 1.0]  # 25 packets in 50 ms are 6 Mbit/s


def test_more_than_unlimited_is_unlimited():
    # a rate of 1e300 would lose so many packets by chance that they are never counted to an end
    link = steady(loss=0.5)
    once, again = (run(link, [(rate, 1e300)] * 3) for rate in (1e300, UNLIMITED))
    assert once.observation["rate_mbps"] == again.observation["rate_mbps"]
    assert (once.history(0) == again.history(0)).all()


def test_recorded_actions_are_factors():
    players = Senders(setting("synthetic"), [steady()], indices=True)
    (number,) = players.check_actions(np.array([[2.4 * 1.45, UNLIMITED]]), [steady()])
    assert FACTORS[number] == 1.5
    labels = players.check_labels(np.array([[2.4, 1.0]]), [steady()], soft=False)
    assert labels.tolist() == [0]  # a packet in 50 ms is far below half the rate


def test_utility_is_the_formula_of_orca():
    worth = utility(
        np.array([8.0, 8.0]), np.array([0.5, 0.0]), np.array([100.0, 60.0]),
        capacity=np.array([10.0, 10.0]), shortest=np.array([50.0, 50.0]),
    )  # fmt: skip
    assert worth == pytest.approx([(8 - 2.5) / 10 * 0.625, 0.8])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.array([9]), "between 0 and 8, got 9 for link `steady`"),
        (np.array([[1.0, -1.0]]), "must be > 0"),
        (np.array([1.0]), r"shape \(1, 2\), got float64 of shape \(1,\)"),
    ],
)
def test_actions_that_are_none_are_refused(action, message):
    simulator = Simulator([steady()], 5)
    with pytest.raises(RuntimeError, match="Call `reset`"):
        simulator.step(action)
    simulator.reset()
    with pytest.raises(ValueError, match=message):
        simulator.step(action)


def test_a_simulator_needs_links_and_capacity():
    with pytest.raises(ValueError, match="at least 1 link and 1 interval, got 0 and 5"):
        Simulator([], 5)
    dead = Trace("t", np.array([0.0, 50.0, 60.0]), np.array([0.0, 0.0, 5.0]))
    with pytest.raises(ValueError, match=r"`dead` must have some capacity .* 0 s of trace `t`"):
        Simulator([Link(id="dead", trace=dead)], 5)


def make(**arguments):
    assert netllm_sims
    return gymnasium.make("netllm/CC-v0", **({"setting": "synthetic"} | arguments))


def test_the_environment_passes_gymnasiums_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make().unwrapped, skip_render_check=True)
        check_env(make(part="test", competitors=1).unwrapped, skip_render_check=True)


def test_an_episode_is_that_of_the_simulator():
    env = make(part="test")
    seen, info = env.reset(seed=0, options={"link": 3})
    place = setting("synthetic")
    link = place.links("test")[3]
    simulator = Simulator([link], place.intervals)
    expected = simulator.reset()
    assert info == {"link": link.id}
    for step in range(place.intervals):
        for name, value in expected.items():
            np.testing.assert_array_equal(seen[name], np.ravel(value[0]))
        expected, reward, _ = simulator.step(np.array([step % 9]))
        seen, got, terminated, truncated, _ = env.step(step % 9)
        assert got == reward[0]
        assert terminated == (step == place.intervals - 1)
        assert not truncated
    with pytest.raises(ValueError, match=r"between 0 and 99, got 100"):
        env.reset(options={"link": 100})


def test_training_draws_links_by_seed():
    env = make()
    first = [env.reset(seed=3)[1]["link"], env.reset()[1]["link"]]
    assert [env.reset(seed=3)[1]["link"], env.reset()[1]["link"]] == first
    assert first[0] != first[1]


def test_the_picture_shows_what_was_sent():
    pytest.importorskip("matplotlib")
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    empty = env.render()
    for _ in range(5):
        env.step(8)
    assert (env.render() != empty).any()
