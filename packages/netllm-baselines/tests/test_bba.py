import numpy as np
import pytest
from netllm_baselines.abr import BBA
from netllm_sims.abr import rollout


def test_the_level_climbs_with_the_buffer_from_reservoir_to_cushion(synthetic, observe):
    buffer_s = [0, 4.99, 5, 6.9, 7, 10, 14.9, 15, 60]
    level = BBA(synthetic).act(observe(9, buffer_s=buffer_s))
    assert level.tolist() == [0, 0, 0, 0, 1, 2, 4, 5, 5]  # int(5 (buffer - 5) / 10)


def test_every_trace_earns_what_the_reference_earns(real, reference):
    run = rollout(BBA(real), real, real.sessions("test"))
    expected = [reference["bba"][name] for name in run.ids]
    assert np.abs(run.qoe - expected).max() < 1e-6
    assert run.qoe.mean() == pytest.approx(0.764151, abs=1e-6)


def test_a_negative_reservoir_is_refused(synthetic):
    with pytest.raises(ValueError, match="reservoir_s"):
        BBA(synthetic, reservoir_s=-1.0)
