import numpy as np
import pytest
from netllm_sims import cjs
from netllm_sims.cjs.gantt import stretches


def finished(log):
    setting = cjs.setting("synthetic", num_jobs=8, num_executors=6)
    run = cjs.Simulator(setting, setting.episodes("test", episodes=1)[0], log=log)
    run.run(cjs.fair())
    return run


def test_stretches_hold_all_work_and_do_not_overlap():
    run = finished(log=True)
    bars, log = stretches(run), run.task_log
    assert bars[:, 3].sum() == pytest.approx(log[:, 1].sum() / 1e3)
    assert len(bars) < len(log)
    for executor in range(6):
        mine = bars[bars[:, 0] == executor]
        assert (mine[1:, 2] >= mine[:-1, 2] + mine[:-1, 3] - 1e-9).all()
    for job in range(8):
        ends_s = bars[bars[:, 1] == job][:, 2:].sum(axis=1)
        assert ends_s.max() == pytest.approx(run.jct_s[job] + run.world.arrival_ms[job] / 1e3)


def test_a_gantt_plot_has_a_bar_per_stretch():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    run = finished(log=True)
    axes = cjs.gantt(run, figure.subplots())
    drawn = [len(bars.get_paths()) for bars in axes.collections]
    assert len(drawn) == 6
    assert sum(drawn) == len(stretches(run))
    assert axes.get_xlim() == pytest.approx((0, run.time_ms / 1e3))


def test_without_a_log_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="log=True"):
        stretches(finished(log=False))
    assert np.isfinite(finished(log=False).jct_s).all()
