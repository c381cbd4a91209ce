from itertools import product

import numpy as np
import pytest
from netllm_baselines.abr import MPC
from netllm_sims.abr import Session, Setting, Simulator, Trace, Video

RATES_KBPS = (400.0, 900.0, 2000.0)


def small(**fields: float) -> Setting:
    rng = np.random.default_rng(5)
    sizes = np.array(RATES_KBPS) * 500 * rng.uniform(0.6, 1.5, (12, 1))
    video = Video(name="small", rates_kbps=RATES_KBPS, sizes_bytes=sizes, chunks=12)
    return Setting(name="small", video=video, **fields)


@pytest.mark.parametrize("fields", [{}, {"buffer_cap_s": 6.0}, {"latency_s": 0.7, "rtt_s": 0.3}])
@pytest.mark.parametrize("mbps", [0.5, 1.1, 1.9])
def test_on_a_steady_link_it_does_what_trying_all_sequences_finds_best(mbps, fields):
    setting = small(**fields)
    trace = Trace(id="steady", time_s=[0, 1000], bandwidth_mbps=[mbps, mbps])
    futures = np.array(list(product(range(3), repeat=4)))
    trial = Simulator(setting, [Session("s", trace)] * len(futures), dtype=np.float64)
    policy = MPC(setting, horizon=4)
    real = Simulator(setting, [Session("s", trace)], dtype=np.float64)
    observation, past = real.reset(), []
    for step in range(11):
        level = policy.act(observation)
        trial.reset()
        for before in past:
            trial.step(np.repeat(before, len(futures)))
        values = sum(trial.step(futures[:, i])[1] for i in range(min(4, 11 - step)))
        chosen = values[futures[:, 0] == level[0]].max()
        assert chosen == pytest.approx(values.max(), abs=1e-9)
        past.append(level)
        observation, *_ = real.step(level)


def test_random_plans_equal_brute_force():
    from netllm_baselines.abr._level_search import plan

    rng = np.random.default_rng(0)
    ladder = np.array([0.3, 0.75, 1.2, 1.85])
    terms = np.array([0.08, 4.0, 12.0, 4.3, 1.0])
    for _ in range(40):
        horizon, level = rng.integers(1, 6), rng.integers(4)
        sizes_mb = ladder * rng.uniform(0.2, 0.9, (6, 1))
        rate_mbps, buffer_s = rng.uniform(0.2, 3), rng.uniform(0, 14)
        values: dict[int, float] = {}
        for sequence in product(range(4), repeat=int(horizon)):
            value, ahead_s, last = 0.0, buffer_s, ladder[level]
            for k, m in enumerate(sequence):
                took_s = sizes_mb[k, m] * 8 / rate_mbps + 0.08
                value += ladder[m] - 4.3 * max(took_s - ahead_s, 0) - abs(ladder[m] - last)
                ahead_s, last = min(max(ahead_s - took_s, 0) + 4, 12), ladder[m]
            values[sequence[0]] = max(value, values.get(sequence[0], -np.inf))
        one = [np.array([x]) for x in (rate_mbps, sizes_mb, buffer_s, level, horizon)]
        best = max(values.values())
        lowest = min(first for first, value in values.items() if value > best - 1e-9)
        quality = np.tile(ladder, (1, 7, 1))
        assert plan(*one, quality, terms).tolist() == [lowest]


def test_errors_of_the_prediction_make_it_careful(synthetic, observe):
    steady, shaken = MPC(synthetic), MPC(synthetic)
    for policy, before in ((steady, 3.0), (shaken, 0.4)):
        policy.act(observe(measured_mbps=before))
    seen = observe(measured_mbps=3.0, stall_s=0.0)
    seen["throughput_mbps"][:, -5:] = 3.0
    seen["delay_s"][:, -5:] = 1.08
    assert shaken.act(seen)[0] < steady.act(seen)[0]


def test_a_horizon_beyond_what_is_seen_is_refused(synthetic):
    with pytest.raises(ValueError, match="between 1 and 6 chunks, got 7"):
        MPC(synthetic, horizon=7)
