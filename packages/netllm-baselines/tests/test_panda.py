from netllm_baselines.abr import Panda
from netllm_sims.abr import Setting, Video


def ladder(*rates_kbps: float) -> Setting:
    sizes = [[rate * 500 for rate in rates_kbps]] * 10
    video = Video(name="own", rates_kbps=rates_kbps, sizes_bytes=sizes, chunks=10)
    return Setting(name="own", video=video)


def act_twice(policy, observe, *, then_mbps: float, buffer_s: float) -> int:
    """First 1 Mbit/s is measured, then another throughput."""
    policy.reset(0)
    policy.act(observe(measured_mbps=1.0))
    later = observe(measured_mbps=then_mbps, buffer_s=buffer_s, stall_s=0.0)
    later["throughput_mbps"][:, -2] = 1.0
    return int(policy.act(later)[0])


def test_the_estimate_probes_upwards_by_steps(observe):
    # T = 4 + 4 - 5 = 3 s; x = 1 + 3 * 0.14 * 0.3 = 1.126; y = 1 + 3 * 0.2 * 0.126 = 1.0756.
    # 0.85 y = 0.91426
    assert act_twice(Panda(ladder(300, 914, 915)), observe, then_mbps=2.0, buffer_s=5) == 1
    assert act_twice(Panda(ladder(300, 915, 916)), observe, then_mbps=2.0, buffer_s=5) == 0


def test_the_estimate_falls_in_proportion_to_the_excess(observe):
    # T = 3 s; x = 1 + 3 * 0.14 * (0.3 - (1 - 0.5 + 0.3)) = 0.79; y = 1 + 0.6 * (0.79 - 1) = 0.874.
    # 0.85 y = 0.7429
    assert act_twice(Panda(ladder(300, 742, 800)), observe, then_mbps=0.5, buffer_s=5) == 1
    assert act_twice(Panda(ladder(300, 743, 800)), observe, then_mbps=0.5, buffer_s=5) == 0


def test_within_the_dead_zone_the_level_stays(synthetic, observe):
    # y = 1.3: up only to 1.105 Mbit/s, which is level 1; down only from above 1.3, to level 2.
    level = Panda(synthetic).act(observe(4, measured_mbps=1.3, level=[0, 1, 2, 3]))
    assert level.tolist() == [1, 1, 2, 2]
