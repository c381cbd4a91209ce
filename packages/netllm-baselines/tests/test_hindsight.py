from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from netllm_baselines.abr import BBA, MPC, Hindsight, Random
from netllm_sims.abr import Session, Setting, Simulator, Trace, Video, rollout, setting

RATES_KBPS = (400.0, 900.0, 2000.0)


def small(seed: int, **fields: float) -> tuple[Setting, Session]:
    """Six chunks over a trace that often runs dry, with outages and a wrap within the session."""
    rng = np.random.default_rng(seed)
    sizes = np.array(RATES_KBPS) * 500 * rng.uniform(0.6, 1.5, (6, 1))
    video = Video(name="small", rates_kbps=RATES_KBPS, sizes_bytes=sizes, chunks=6)
    time_s = np.cumsum(rng.uniform(0.5, 3.0, 9)) - 0.5
    bandwidth_mbps = rng.uniform(0, 2.5, 9) * (rng.random(9) < 0.8)
    bandwidth_mbps[-1] = 1.0
    trace = Trace(id="small", time_s=time_s, bandwidth_mbps=bandwidth_mbps)
    session = Session("small", trace, start_s=float(rng.uniform(0, time_s[-1])), scale=1.3)
    return Setting(name="small", video=video, **fields), session


def brute_force(setting: Setting, session: Session) -> np.ndarray:
    """QoE of every sequence of levels."""
    futures = np.array(list(product(range(3), repeat=5)))
    simulator = Simulator(setting, [session] * len(futures), dtype=np.float64)
    simulator.reset()
    return np.mean([simulator.step(futures[:, i])[1] for i in range(5)], axis=0)


@pytest.mark.parametrize(
    "fields",
    [{}, {"latency_s": 0.6, "rtt_s": 0.4}, {"rebuffering": 1.0, "smoothness": 0.37}],
)
def test_no_sequence_of_levels_earns_more(fields):
    for seed in range(12):
        setting, session = small(seed, **fields)
        best = rollout(Hindsight(setting), setting, [session]).qoe[0]
        assert best == pytest.approx(brute_force(setting, session).max(), abs=1e-9)


def test_a_session_with_a_video_of_its_own_is_planned_with_it():
    for seed in range(4):
        setting, session = small(seed)
        large = replace(setting.video, sizes_bytes=setting.video.sizes_bytes * 1.7)
        session = replace(session, video=large)
        best = rollout(Hindsight(setting), setting, [session]).qoe[0]
        assert best == pytest.approx(brute_force(setting, session).max(), abs=1e-9)


def test_at_a_full_buffer_it_stays_close_to_the_optimum():
    lost = []
    for seed in range(12):
        setting, session = small(seed, buffer_cap_s=5.0)
        best = rollout(Hindsight(setting), setting, [session]).qoe[0]
        lost.append(brute_force(setting, session).max() - best)
    assert min(lost) > -1e-9
    assert max(lost) < 0.02


def test_a_session_that_left_its_plan_is_planned_anew():
    for seed in range(6):
        setting, session = small(seed)
        run = rollout(Random(setting), setting, [session], label=Hindsight(setting), seed=seed)
        simulator = Simulator(setting, [session] * 3, dtype=np.float64)
        simulator.reset()
        for level in run.actions[0, :-1]:
            simulator.step(np.repeat(level, 3))
        _, last, _ = simulator.step(np.arange(3))
        assert last[run.labels[0, -1]] == last.max()


def test_other_policies_stay_below(synthetic):
    sessions = synthetic.sessions("test")[:3]
    bound = rollout(Hindsight(synthetic, width=3000), synthetic, sessions).qoe
    for rival in (BBA(synthetic), MPC(synthetic)):
        assert (rollout(rival, synthetic, sessions).qoe < bound).all()


def test_fcc_test_allows_at_least_what_a_beam_search_found(real):
    run = rollout(Hindsight(real, width=3000), real, real.sessions("test"))
    assert 1.221 <= run.qoe.mean() < 1.2243  # from above: the optimum without a buffer cap


def test_the_front_keeps_exactly_what_no_other_state_beats():
    from netllm_baselines.abr._hindsight_search import front

    rng = np.random.default_rng(0)
    for _ in range(30):
        time_s = rng.random(60).round(1)
        quality = rng.integers(0, 12, 60) * 0.05
        stalled_s = rng.random(60).round(1) * (rng.random(60) < 0.4)
        value = quality - 4.3 * stalled_s
        kept = front(time_s, quality, stalled_s, 4.3, 0.05)
        beats = (
            (time_s[:, None] <= time_s)
            & (value[:, None] >= value - 1e-9)
            & (quality[:, None] >= quality - 1e-9)
        )
        assert (np.diff(time_s[kept]) >= 0).all()
        assert beats[kept].any(axis=0).all()  # whatever was dropped is beaten by something kept
        earlier = time_s[:, None] < time_s
        assert not (beats & earlier)[np.ix_(kept, kept)].any()


def test_delay_noise_cannot_be_foreseen():
    with pytest.raises(ValueError, match="`delay_noise` must be 0"):
        Hindsight(setting("synthetic", delay_noise=0.1))


def test_it_must_know_the_sessions(synthetic, observe):
    policy = Hindsight(synthetic)
    with pytest.raises(RuntimeError, match=r"Call `begin\(simulator\)`"):
        policy.act(observe())
