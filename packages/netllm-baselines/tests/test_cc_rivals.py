"""Rivals of congestion control come out as their papers say, on links of constant capacity."""

import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
from netllm_baselines.cc import AIMD, BBR, CUBIC, Capacity, Copa, Random, Vegas, Vivace
from netllm_baselines.cc.vivace import utility
from netllm_sims import cc
from netllm_sims.abr import Trace

RULES = (AIMD, BBR, CUBIC, Copa, Vegas, Vivace)
NAMES = ("aimd", "bbr", "capacity", "copa", "cubic", "random", "vegas", "vivace")


@pytest.fixture(scope="module")
def place():
    return cc.setting("synthetic")


def steady(mbps=12.0, rtt_ms=50.0, buffer_packets=100.0, **changes):
    """A link of 50 packets' bandwidth-delay product (BDP), and a buffer of two of them."""
    trace = Trace("steady", np.array([0.0, 600.0]), np.array([mbps, mbps]))
    return cc.Link(
        id="steady", trace=trace, rtt_ms=rtt_ms, buffer_packets=buffer_packets, **changes
    )


def course(policy, link, intervals=1_600, skip=800):
    """What happened in each interval after the first ones, by name."""
    simulator = cc.Simulator([link], intervals, dtype=np.float64)
    observation = simulator.reset()
    policy.reset(0)
    if hasattr(policy, "begin"):
        policy.begin(simulator)
    rows = []
    for _ in range(intervals):
        observation, reward, _ = simulator.step(policy.act(observation))
        rows.append(
            {
                "mbps": observation["throughput_mbps"][0, -1],
                "sent_mbps": observation["sent_mbps"][0, -1],
                "rtt_ms": observation["rtt_ms"][0, -1],
                "queue": simulator.queue_packets[0],
                "inflight": observation["inflight_packets"][0],
                "loss": observation["loss"][0, -1],
                "utility": reward[0],
            }
        )
    return {name: np.array([row[name] for row in rows[skip:]]) for name in rows[0]}


def test_cubic_fills_the_buffer_and_leaves_seven_tenths_of_its_window(place):
    # RFC 9438: a loss leaves 0.7; BDP and buffer are 150 packets, and the window still grows in the
    # round trip in which the loss is not noticed yet
    windows = []

    class Watched(CUBIC):
        def decide(self, rows, seen, observation):
            controls = super().decide(rows, seen, observation)
            windows.append(controls[0, 1])
            return controls

    got = course(Watched(place), steady(), intervals=3_000)
    steps = np.array(windows[800:])
    falls = np.flatnonzero(np.diff(steps) < 0)
    assert len(falls) >= 4
    assert steps[falls + 1] / steps[falls] == pytest.approx(np.full(len(falls), 0.7))
    assert steps[falls].min() > 149
    assert steps[falls].max() < 165
    assert got["queue"].max() == pytest.approx(100.0, abs=1.0)
    assert got["mbps"].mean() == pytest.approx(12.0, rel=0.01)


def test_cubics_window_under_losses_by_chance_is_that_of_the_response_function(place):
    # RFC 9438, section 5.1: 1.054 (RTT / p)^0.75 packets, for losses at equal distances; where
    # these are random, the mean is somewhat higher
    link = steady(mbps=400.0, rtt_ms=100.0, buffer_packets=5_000.0, loss=5.5e-5, seed=3)
    got = course(CUBIC(place), link, intervals=12_000, skip=2_000)
    assert got["queue"].max() == 0
    assert got["inflight"].mean() == pytest.approx(1.054 * (0.1 / 5.5e-5) ** 0.75, rel=0.25)


def test_vegas_keeps_two_to_four_packets_in_the_queue(place):
    for link in (steady(), steady(mbps=24.0, rtt_ms=100.0), steady(rtt_ms=30.0)):
        got = course(Vegas(place), link)
        assert got["queue"].min() >= 2.0 - 0.1
        assert got["queue"].max() <= 4.0 + 0.1
        assert got["mbps"].mean() == pytest.approx(got["mbps"].max())


@pytest.mark.parametrize(("mbps", "rtt_ms"), [(12.0, 50.0), (24.0, 100.0), (6.0, 40.0)])
def test_copas_rate_is_one_over_delta_times_the_queueing_delay(place, mbps, rtt_ms):
    # section 2.3: the queue swings between 0 and 2.5 / delta packets, delta 0.5
    got = course(Copa(place), steady(mbps, rtt_ms))
    assert got["queue"].min() < 0.5
    assert got["queue"].max() == pytest.approx(2.5 / 0.5, rel=0.25)
    waits_s = (got["rtt_ms"].mean() - rtt_ms) * 1e-3
    packets_per_s = got["mbps"].mean() * 1e6 / 12_000
    assert packets_per_s == pytest.approx(1 / (0.5 * waits_s), rel=0.25)


def test_copa_competes_where_another_fills_the_queue_and_does_not_alone(place):
    # section 2.2: beside a loss-based flow delta falls; the shares come near to each other
    figures = cc.rollout(
        Copa(place), cc.setting("synthetic", intervals=1_600), [steady(competitors=(0,))]
    )
    assert figures["fairness"][0] > 0.85
    policy = Copa(place)
    course(policy, steady())
    assert policy._rows["per_delta"][0] == 2.0


def test_bbr_runs_near_the_bdp_and_never_above_two(place):
    got = course(BBR(place), steady(buffer_packets=400.0))
    assert got["inflight"].max() <= 2 * 50 + 4
    assert 0.9 * 50 < np.median(got["inflight"]) < 1.3 * 50
    assert got["mbps"].mean() > 0.95 * 12.0
    assert got["loss"].max() == 0


def test_bbr_probes_with_five_quarters_of_its_rate_once_in_eight_round_trips(place):
    got = course(BBR(place), steady(buffer_packets=400.0), intervals=400, skip=200)
    ratio = got["sent_mbps"] / 12.0
    assert np.mean(ratio > 1.2) == pytest.approx(1 / 8, abs=0.05)
    assert ratio.max() == pytest.approx(1.25, rel=0.02)


def test_bbr_empties_the_queue_every_ten_seconds(place):
    got = course(BBR(place), steady(buffer_packets=400.0), intervals=1_600, skip=0)
    still = np.flatnonzero(got["inflight"] <= 4.01)
    assert len(still[still > 100]) >= 3
    seconds = still[still > 100] * 0.025
    assert np.diff(seconds).max() == pytest.approx(10.0, rel=0.1)


def test_bbr_does_not_yield_to_losses_by_chance(place):
    # the paper's section on random loss: full rate up to some 15 %, where CUBIC falls
    figures = [
        course(rule(place), steady(loss=0.02, seed=1))["mbps"].mean() for rule in (BBR, CUBIC)
    ]
    assert figures[0] > 0.9 * 12.0
    assert figures[1] < 0.4 * 12.0


@pytest.mark.parametrize(("mbps", "loss"), [(12.0, 0.0), (96.0, 0.01)])
def test_vivace_comes_to_rest_near_the_capacity_with_a_short_queue(place, mbps, loss):
    # section 3.2: the utility rises up to the capacity, and still does with some losses by chance
    link = steady(mbps, buffer_packets=mbps * 8, loss=loss, seed=2)
    got = course(Vivace(place), link, intervals=2_400, skip=1_200)
    assert got["mbps"].mean() > 0.8 * mbps
    assert np.median(got["rtt_ms"]) < 55.0


def test_vivaces_utility_rises_below_the_capacity_and_falls_above():
    rate = np.array([11.0, 12.0])
    none = np.zeros(2)
    below = utility(rate, none, none)
    assert below[1] > below[0]
    assert below[1] == pytest.approx(12**0.9)
    full = utility(rate, np.array([0.0, 0.05]), none)
    assert full[1] == pytest.approx(12**0.9 - 900 * 12 * 0.05)
    lossy = utility(rate, none, np.full(2, 0.05))
    assert lossy[1] == pytest.approx(12**0.9 - 11.35 * 12 * 0.05)


def test_the_bound_fills_the_link_without_a_queue_and_nobody_beats_it(place):
    got = course(Capacity(place), steady(), intervals=200, skip=10)
    assert got["queue"].max() < 1e-6
    assert got["utility"] == pytest.approx(np.ones(190))
    links = [link for link in place.links("valid") if link.loss == 0]
    best = cc.rollout(Capacity(place), place, links)["utility"]
    for rule in RULES:
        assert (cc.rollout(rule(place), place, links)["utility"] <= best + 0.02).all()
    with pytest.raises(RuntimeError, match=r"Call `begin\(simulator\)`"):
        Capacity(place).act({})


@pytest.mark.parametrize("rule", [*RULES, Capacity])
def test_a_flow_does_not_depend_on_its_batch(place, rule):
    links = cc.setting("synthetic", competitors=1).links("test", episodes=4)
    together = cc.rollout(rule(place), place, links)
    for number, link in enumerate(links):
        alone = cc.rollout(rule(place), place, [link])
        for name, values in alone.items():
            assert values[0] == pytest.approx(together[name][number], rel=1e-9)


@pytest.mark.parametrize("rule", RULES[1:])
def test_a_batch_that_changes_its_size_is_refused(place, rule):
    simulator = cc.Simulator(place.links("test", episodes=2), 5)
    policy = rule(place)
    policy.act(simulator.reset())
    seen, _, _ = simulator.step(np.array([4, 4]))
    with pytest.raises(ValueError, match="the same 2 flows as before, got 1"):
        policy.act({name: value[:1] for name, value in seen.items()})


def test_random_answers_follow_the_seed(place):
    seen = {"rate_mbps": np.ones(50)}
    policy = Random(place)
    answers = []
    for seed in (1, 1, 2):
        policy.reset(seed)
        answers.append(policy.act(seen).tolist())
    assert answers[0] == answers[1] != answers[2]


def test_aimd_refuses_bounds_out_of_order(place):
    with pytest.raises(ValueError, match="below `most`"):
        AIMD(place, least=0.3, most=0.2)


def test_the_rivals_are_entry_points():
    found = {point.name: point for point in entry_points(group="netllm.policies")}
    assert all(callable(found[f"cc.{name}"].load()) for name in NAMES)


def test_naming_the_rivals_loads_neither_torch_nor_numba():
    code = (
        "import sys; from netllm_baselines.cc import BBR, CUBIC, Aurora, Capacity, Copa, Vivace\n"
        "print(sorted({'torch', 'numba'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
