import numpy as np
import pytest
from netllm_baselines.abr import MPCPaper
from netllm_sims.abr import rollout


def test_every_trace_earns_what_the_reference_earns(real, reference):
    run = rollout(MPCPaper(real), real, real.sessions("test"))
    expected = [reference["mpc-paper"][name] for name in run.ids]
    assert np.abs(run.qoe - expected).max() < 1e-6
    assert run.qoe.mean() == pytest.approx(0.848455, abs=1e-6)


def test_earlier_sessions_change_later_ones_until_reset(synthetic):
    sessions = synthetic.sessions("test")[:6]
    policy = MPCPaper(synthetic)
    together = rollout(policy, synthetic, sessions)
    alone = [rollout(policy, synthetic, [session]).qoe[0] for session in sessions]
    assert together.qoe[0] == alone[0]
    assert not np.allclose(together.qoe, alone)


def test_levels_move_by_at_most_one(synthetic):
    run = rollout(MPCPaper(synthetic), synthetic, synthetic.sessions("test")[:3])
    assert np.abs(np.diff(run.actions, axis=1, prepend=0)).max() == 1


def test_a_batch_is_refused(synthetic, observe):
    with pytest.raises(ValueError, match="must hold one session, got 2"):
        MPCPaper(synthetic).act(observe(2))
