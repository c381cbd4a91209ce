import numpy as np
from netllm_baselines.abr import Random


def test_all_levels_come_equally_often(synthetic, observe):
    levels = Random(synthetic).act(observe(60_000))
    assert np.allclose(np.bincount(levels, minlength=6), 10_000, atol=400)  # over 4 sd


def test_the_seed_decides(synthetic, observe):
    policy = Random(synthetic)
    draws = []
    for seed in (1, 1, 2):
        policy.reset(seed)
        draws.append(policy.act(observe(50)).tolist())
    assert draws[0] == draws[1] != draws[2]
