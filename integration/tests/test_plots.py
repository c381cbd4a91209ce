from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from netllm.report import plots
from netllm.report.report import Report
from netllm.report.result import Result, summarise
from netllm.task import Metric

QOE = Metric("qoe", "QoE")


def result(name, values, *, checkpoint=False):
    rows = [{"id": f"e{i}", "seed": 0, "qoe": float(value)} for i, value in enumerate(values)]
    return Result(
        task="abr",
        setting="default",
        policy=None if checkpoint else name,
        checkpoint=name if checkpoint else None,
        metrics=summarise(rows, (QOE,)),
        subsets={},
        episodes=rows,
        seconds=1.0,
        decisions_per_s=1.0,
    )


RESULTS = [
    result("bba", [1.0, 2.0, 3.0, 4.0]),
    result("runs/mine/best", [2.0, 3.0, 4.0, 5.0], checkpoint=True),
]


@pytest.fixture
def ax():
    return Figure().subplots()


def test_the_cdf_holds_a_line_per_policy_that_rises_to_one(ax):
    assert plots.cdf(ax, RESULTS, QOE) is ax
    best = ax.lines[0]
    assert len(ax.lines) == 2
    assert best.get_ydata()[-1] == 1.0
    # Of 2, 3, 4, 5 half lie at or below 3.
    assert np.interp(3.0 + 1e-9, best.get_xdata()[1:], best.get_ydata()[1:]) == pytest.approx(0.5)


def test_training_seeds_of_a_recipe_look_the_same_and_have_one_place_in_the_legend(ax):
    names = [f"{recipe}-{seed}" for recipe in "abcd" for seed in (0, 1)]
    models = [
        replace(result(name, [k, k + 1.0], checkpoint=True), recipe=name[0])
        for k, name in enumerate(names)
    ]
    plots.cdf(ax, [*models, *RESULTS[:1]], QOE)
    styles = {(line.get_color(), line.get_linestyle()) for line in ax.lines}
    assert (len(ax.lines), len(styles)) == (9, 5)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["7.000  d", "5.000  c", "3.000  b", "2.500  bba", "1.000  a"]


@pytest.mark.parametrize("count", [2, 16])
def test_a_legend_covers_no_line(count):
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ax = plots.cdf(figure.subplots(), [result(f"p{k}", [k, k + 9.0]) for k in range(count)], QOE)
    figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= ax.bbox.x1
    assert figure.bbox.y0 <= legend.y0


def test_the_adapted_model_stands_out_and_every_line_has_its_own_dash_or_colour(ax):
    plots.cdf(ax, RESULTS, QOE)
    widths = [line.get_linewidth() for line in ax.lines]
    assert widths[0] > widths[1]
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 2


def test_a_bar_is_as_long_as_the_mean_and_the_best_is_on_top(ax):
    assert plots.bars(ax, RESULTS, QOE) is ax
    assert [bar.get_width() for bar in ax.patches] == [2.5, 3.5]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bba", "mine"]


def test_a_curve_goes_through_the_mean_over_seeds_and_rivals_lie_across(ax):
    model = {"runs/a-1": 1.0, "runs/a-10-0": 2.0, "runs/a-10-1": 4.0, "runs/b-10": 2.5}
    results = [*RESULTS[:1], *(result(n, [v] * 4, checkpoint=True) for n, v in model.items())]
    places = {"a-1": ("a", 1), "a-10-0": ("a", 10), "a-10-1": ("a", 10), "b-10": ("b", 10)}
    plots.curves(ax, results, QOE, places={**places, "bba": ("bba", None)}, axis="episodes")
    drawn = [dict(zip(*bars.lines[0].get_data(), strict=True)) for bars in ax.containers]
    assert drawn == [{1: 1.0, 10: 3.0}, {10: 2.5}]
    across = [line for line in ax.lines if line.get_label() == "bba"]
    assert list(across[0].get_ydata()) == [2.5, 2.5]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "10"]


def test_one_policy_that_is_far_off_does_not_set_the_scale(ax):
    far = result("random", [-90.0, -80.0, -70.0, -60.0])
    plots.bars(ax, [*RESULTS, far], QOE)
    low, high = ax.get_xlim()
    assert -10 < low < 0
    assert 3.5 < high < 10
    assert "\N{LEFTWARDS ARROW} -75.000" in [text.get_text() for text in ax.texts]


def test_a_policy_that_knows_the_future_is_grey(ax):
    plots.cdf(ax, RESULTS, QOE, bounds=frozenset({"bba"}))
    assert [line.get_color() for line in ax.lines] == [plots.ADAPTED[0], plots.BOUND]


def test_every_setting_gets_its_own_files(tmp_path):
    other = [Result(**{**vars(one), "setting": "unseen"}) for one in RESULTS]
    report = Report(results=[*RESULTS, *other], comparisons=[], provenance={}, metrics=(QOE,))
    draws = {"bars.png": lambda ax, results: plots.bars(ax, results, QOE)}
    paths = plots.save(report, draws, tmp_path / "new")
    assert [path.name for path in paths] == ["default-bars.png", "unseen-bars.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
