"""A reproduction makes what is missing, once, and its report holds every number."""

import asyncio
import csv
import inspect
import json
import re
import shutil
from functools import partial
from pathlib import Path

import netllm as library
import pytest
import torch
from netllm import registry
from netllm.real.browser import PATIENCE_MS
from netllm.report.report import Report
from netllm.report.result import Result, summarise
from netllm.verbs import test as testing
from netllm.verbs.reproducing.backbones import make
from netllm.verbs.reproducing.experiments import (
    Contender,
    Experiments,
    Measure,
    Model,
    Pool,
    Row,
    contenders,
    read,
)
from netllm.verbs.reproducing.findings import Finding, Line, finding, of_lines
from netllm.verbs.reproducing.leaderboard import boards, standings
from netllm.verbs.reproducing.leaderboard import table as ranks
from netllm.verbs.reproducing.ledger import Entry, Ledger
from netllm.verbs.reproducing.measures import read as measured
from netllm.verbs.reproducing.pretraining import KINDS, statement, table
from netllm.verbs.reproducing.work import Work
from netllm_adapt import load_backbone

ROOT = Path(__file__).parents[2]
TESTS = 17
"""Contenders and settings of the budget `fast`."""


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A folder of a reproduction that was cut off at its third test, and how many tests it took."""
    out = tmp_path_factory.mktemp("reproduce") / "run"
    plain, done = testing.test, []

    def counted(*arguments, **options):
        done.append(arguments)
        if len(done) == 3:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testing, "test", counted)
        with pytest.raises(KeyboardInterrupt):
            library.reproduce(out=out)
        left = library.reproduce(out=out, dry_run=True).left
        found = library.reproduce(out=out, resume=True)
    names = ["pool abr", "pool cjs", "backbone markov", "bba", "mpc", "hindsight", "abr-1"]
    assert [one.contender for one in left][:7] == names
    assert left[3].testing is None  # no policy was tested
    assert left[6].testing > 0  # the median of the two models before it
    assert (found.left, found.failed) == ((), ())
    return out, len(done)


def test_nothing_is_done_twice_after_a_kill(reproduced):
    out, done = reproduced
    assert done == TESTS + 1
    assert library.reproduce(out=out, dry_run=True).left == ()
    log = (out / "runs" / "abr-0" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [2]


def test_the_report_holds_every_number_and_stands_alone(reproduced):
    out, _ = reproduced
    with (out / "numbers.csv").open(newline="") as file:
        numbers = list(csv.DictReader(file))
    assert len({(one["row"], one["contender"]) for one in numbers}) == TESTS
    assert {one["setting"] for one in numbers} == {"synthetic"}
    assert all(re.fullmatch("[0-9a-f]{16}", one["key"]) for one in numbers)
    assert all(one["command"].startswith("netllm test ") for one in numbers)
    by = {(one["row"], one["contender"]): one for one in numbers}
    assert {by["abr", name]["training_seed"] for name in ("abr-0", "abr-1", "bba")} == {
        *("0", "1", "")
    }
    assert by["abr", "bba"]["data"] == "traces generated traces, video generated video"
    assert by["abr", "bba"]["seeds"] == "100003"
    text = (out / "report.md").read_text()
    for row in read("fast").rows:
        metric = registry.task(row.task).metrics[0].key
        for one in numbers:
            if (one["row"], one["metric"]) == (row.name, metric):
                assert f"{float(one['mean']):.3f}" in text
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 7
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert str(out) not in page + text + (out / "numbers.csv").read_text()


def test_the_report_ranks_everybody_who_was_tested(reproduced):
    out, _ = reproduced
    _, _, board = (out / "report.md").read_text().partition("\n## Leaderboard\n")
    board, _, _ = board.partition("\n## ")
    assert "### abr: synthetic, 10 episodes" in board
    assert "### cjs: synthetic, num_jobs=5, num_executors=4, 5 episodes" in board
    for row in read("fast").rows:
        for one in [] if row.subject else contenders(row, read("fast").models):
            assert f"| `{one.label}`" in board
    with (out / "numbers.csv").open(newline="") as file:
        numbers = [one for one in csv.DictReader(file) if one["row"] == "abr"]
    qoe = {one["contender"]: float(one["mean"]) for one in numbers if one["metric"] == "qoe"}
    del qoe["hindsight"]
    first, _, _ = board.partition("### cjs")
    ranked = re.findall(r"^\| \d+ \| `([^`]+)`", first, flags=re.M)
    assert ranked == sorted(qoe, key=qoe.__getitem__, reverse=True)


def test_the_page_is_readable_on_a_phone(reproduced):
    pytest.importorskip("playwright", reason="needs Playwright: install netllm[real]")
    from netllm.real.browser import browser, program

    try:
        program()
    except FileNotFoundError as error:
        pytest.skip(f"{error}")
    out, _ = reproduced

    async def measured():
        async with browser() as opened:
            page = await opened.new_page(viewport={"width": 390, "height": 844})
            await page.goto((out / "report.html").as_uri(), timeout=PATIENCE_MS)
            drawn = "[...document.images].every(one => one.naturalWidth > 0)"
            width = "document.documentElement.scrollWidth"
            return await page.evaluate(width), await page.evaluate(drawn)

    assert asyncio.run(measured()) == (390, True)


def test_results_of_a_ledger_are_taken_over_and_those_of_other_versions_marked(
    reproduced, tmp_path, netllm
):
    out, _ = reproduced
    path = out / "ledger" / "vp" / "hold-last.json"
    before = path.read_text()
    document = json.loads(before)
    document["entries"]["synthetic"]["made"]["versions"]["netllm"] = "0.0.1"
    path.write_text(json.dumps(document))
    more = tmp_path / "more"
    words = ("--only", "vp", "--ledger", out / "ledger", "--out", more)
    code, told, _ = netllm("reproduce", *words)
    path.write_text(before)
    assert code == 0
    assert str(more / "report.html") in told
    assert not (more / "runs").exists()
    text = (more / "report.md").read_text()
    assert "Made with other versions:\n\n- hold-last in synthetic: netllm 0.0.1, " in text


def test_a_policy_of_ones_own_joins_the_rows_that_are_named(reproduced, tmp_path, netllm):
    out, _ = reproduced
    ledger, more = tmp_path / "ledger", tmp_path / "more"
    shutil.copytree(out / "ledger", ledger)
    words = ("--ledger", ledger, "--out", more, "--policy", "steady", "--only")
    code, _, told = netllm("reproduce", *words, "abr")
    assert code == 0, told
    assert (ledger / "abr" / "steady.json").is_file()
    assert not (more / "runs").exists()  # everybody else was known
    assert "| `steady` |" in (more / "report.md").read_text()
    with pytest.raises(ValueError, match="`policy` 'steady' needs the rows that it joins"):
        library.reproduce(policy="steady", out=tmp_path / "other")
    with pytest.raises(ValueError, match=r"`policy` must be a name.*got 'ppo:runs/ppo.npz'"):
        library.reproduce(policy="ppo:runs/ppo.npz", only="abr", out=tmp_path / "other")


def work_that_fails(folder, *, episodes=4, steps=2):
    """The work of one row, whose model's loss becomes infinite."""
    row = Row(
        name="bad",
        title="",
        paper="",
        task="abr",
        settings=("synthetic",),
        policies=("bba", "genet"),
        models=("bad",),
        episodes=5,
    )
    adapt = {"backbone": "scratch-16x1", "steps": steps, "learning_rate": 1e30, "validation": 1}
    collect = {"policy": "bba", "setting": "synthetic", "episodes": episodes}
    pool = Pool(task="abr", rl_collect=collect)
    bad = Model(task="abr", pool="p", adapt={**adapt, "batch": 2})
    whole = Experiments(rows=(row,), models={"bad": bad}, pools={"p": pool})
    return Work(whole, folder, Ledger(folder / "ledger"), None, 1, "cpu")


def everyone(work):
    """All whom it tests, and their row."""
    (row,) = work.experiments.rows
    return [*contenders(row, work.experiments.models)], row


def test_what_fails_is_a_finding(tmp_path):
    work = work_that_fails(tmp_path)
    some, row = everyone(work)
    for one in some:
        work.do(one)
    found = finding(work, row)
    told = found.failed()
    assert [one.partition(":")[0] for one in told] == ["bad in synthetic", "genet in synthetic"]
    assert "must have a finite loss" in told[0]
    assert [result.policy for result in found.report.results] == ["bba"]
    assert finding(work_that_fails(tmp_path), row).failed() == told


def test_what_another_recipe_began_is_not_gone_on_with(tmp_path):
    work = work_that_fails(tmp_path)
    some, _ = everyone(work)
    work.check(some)
    work.do(some[0])
    (tmp_path / "runs" / "bad-0").mkdir(parents=True, exist_ok=True)
    work_that_fails(tmp_path).check(some)
    for other, name in (({"steps": 3}, "runs/bad-0"), ({"episodes": 5}, "pools/p")):
        changed = work_that_fails(tmp_path, **other)
        with pytest.raises(FileExistsError, match=f"{name}: was begun by another recipe"):
            changed.check(everyone(changed)[0])
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)  # as the error says


@pytest.mark.parametrize("name", ["recipes", "backbones", "figures"])
def test_a_reproduction_cut_off_early_is_gone_on_with(tmp_path, name):
    out = tmp_path / "run"
    (out / name).mkdir(parents=True)
    with pytest.raises(FileExistsError, match="Go on with it by --resume"):
        library.reproduce(only="vp", out=out, known=True)
    library.reproduce(only="vp", out=out, known=True, resume=True)
    assert (out / "report.html").is_file()


def test_what_cannot_be_reproduced_is_told(reproduced, tmp_path, netllm):
    out, _ = reproduced
    with pytest.raises(ValueError, match="Did you mean day"):
        library.reproduce(budget="days", out=tmp_path / "run")
    code, _, err = netllm("reproduce", "--only", "abl", "--out", tmp_path / "run")
    assert (code, "Did you mean abr" in err) == (2, True)
    code, _, err = netllm("reproduce", "--out", out)
    assert (code, "Go on with it by --resume" in err) == (2, True)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="letter"):
        library.reproduce(out=tmp_path)
    damaged = tmp_path / "ledger" / "vp" / "vp.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text('{"entries": {"synthetic": {"key": 3}}}')
    with pytest.raises(ValueError, match=r"vp\.json"):
        library.reproduce(only="vp", ledger=tmp_path / "ledger", dry_run=True)


@pytest.mark.parametrize("budget", ["fast", "day", "full"])
def test_the_experiments_name_what_there_is(budget):
    whole = read(budget)
    for row in whole.rows:
        task = registry.task(row.task)
        assert {*row.settings} <= {*task.settings()}
        assert {*row.policies} <= {*registry.policies(row.task)}
        assert {*row.models} <= {*whole.models}
        assert all(whole.models[name].task == row.task for name in row.models)
    for model in whole.models.values():
        task = registry.task(model.task)
        known = {*inspect.signature(library.adapt).parameters, *vars(task.recipe())}
        assert {*model.adapt} <= known
        assert not model.pool or whole.pools[model.pool].task == model.task
        varied = model.vary.removeprefix("set.")
        assert not varied or varied in known | {"episodes", "train_stride"}
        assert bool(varied) == bool(model.values)
        assert not model.backbone or model.backbone in whole.backbones
    for row in whole.rows:
        labels = {one.kind for one in contenders(row, whole.models)}
        assert {row.subject, *row.against} - {""} <= labels
        assert bool(row.axis) == any(whole.models[name].values for name in row.models)
    for pool in whole.pools.values():
        assert {*pool.rl_collect} <= {*inspect.signature(library.rl_collect).parameters}


def gain(task, settings, *found):
    """What a row tells of `ours` over `other`, of (label, seed, value, errors) of its models."""
    row = Row(
        name="row",
        title="",
        paper="",
        task=task,
        settings=settings,
        policies=(),
        models=(),
        axis="blocks",
        subject="ours",
        against=("other",),
    )
    metric = registry.task(task).metrics[0].key
    lines = []
    for label, seed, value, errors in found:
        rows = [{"id": f"e{i}", "seed": 0, metric: one} for i, one in enumerate(errors)]
        result = Result(
            task=task,
            setting=settings[0],
            policy=None,
            checkpoint=label,
            metrics=summarise(rows, registry.task(task).metrics[:1]),
            subsets={},
            episodes=rows,
            seconds=1.0,
            decisions_per_s=1.0,
        )
        who = Contender(row, label, Model(task=task, seeds=(0, 1)), seed, value)
        lines.append(Line(who, settings[0], Entry(key="", command="", made={}, result=result)))
    report = Report(results=[], comparisons=[], provenance={}, metrics=registry.task(task).metrics)
    return Finding(row, report, tuple(lines))


def seeds(label, *all_errors):
    return [(label, seed, None, errors) for seed, errors in enumerate(all_errors)]


def test_what_pretraining_contributes_is_told_by_every_pair_of_three_seeds():
    level = [10.0, 12.0, 11.0, 13.0, 14.0, 12.0]
    lower = [[x - n for x in level] for n in (1, 2, 3)]
    ours = seeds("ours", *lower)
    found = gain("vp", ("default",), *ours, *seeds("other", [x - 1.5 for x in level], level, level))
    assert [*table(found)] == [
        "| `ours` over | default |",
        "|---|---|",
        "| `other` | +1.500 (-0.500 to +3.000) |",
    ]
    assert statement(found).endswith("pre-training: no difference told in 1.")
    found = gain("vp", ("default",), *ours, *seeds("other", level, level, level))
    assert [*table(found)][2] == "| `other` | +2.000 (+1.000 to +3.000) gains |"
    few = gain("vp", ("default",), *ours, *seeds("other", level))
    assert [*table(few)][2] == "| `other` | +2.000 (+1.000 to +3.000) |"
    assert statement(few).endswith("pre-training: too few training seeds for a verdict in 1.")


def result_of(policy, qoe, setting="default"):
    """A policy's result and its finding."""
    rows = [{"id": f"e{i}", "seed": 0, "qoe": one} for i, one in enumerate(qoe)]
    result = Result(
        task="abr",
        setting=setting,
        policy=policy,
        checkpoint=None,
        metrics=summarise(rows, registry.task("abr").metrics[:1]),
        episodes=rows,
        seconds=1.0,
        decisions_per_s=1.0,
    )
    made = {"made_at": "2026-12-01T17:21:42+00:00", "versions": {"netllm": "0.1.0"}}
    command = f"netllm test abr --setting {setting} --policy {policy}"
    return policy, Entry(key="", command=command, made=made, result=result), result


def test_a_leaderboard_ranks_by_mean_and_tells_who_is_level_with_the_first():
    base = [1.0, 3.0, 2.0, 5.0, 4.0, 3.0, 2.0, 4.0]
    swing = [0.5, -0.6, 0.4, -0.5, 0.6, -0.4, 0.5, -0.6]  # mean -0.0125
    some = [
        result_of("bba", [x - 1 for x in base]),
        result_of("hindsight", [x + 1 for x in base]),
        result_of("mpc", [x + y for x, y in zip(base, swing, strict=True)]),
        result_of("soda", base),
    ]
    lines = standings(some, "abr")
    assert [(one.rank, one.label) for one in lines] == [
        (None, "hindsight"),
        (1, "soda"),
        (2, "mpc"),
        (3, "bba"),
    ]
    assert [one.verdict for one in lines] == ["", "", "level", "behind"]
    assert lines[3].to_first.mean == pytest.approx(-1)
    assert [one.share for one in lines] == pytest.approx([1, 3 / 4, 2.9875 / 4, 2 / 4])
    start, end = ranks(some, "abr")[-1].split(" | 50.0% | ")
    assert start.startswith("| 3 | `bba` | 2.000 [")
    assert end == ("-1.000 [-1.000, -1.000] | behind | 2026-12-01, 0.1.0 | `--policy bba` |")


def test_a_share_of_a_bound_is_told_of_numbers_above_zero_only():
    some = [result_of("hindsight", [1.0] * 6), result_of("bba", [-1.0] * 6)]
    assert [one.share for one in standings(some, "abr")] == [1, None]
    below = [result_of("hindsight", [-1.0] * 6), result_of("bba", [-2.0] * 6)]
    assert [one.share for one in standings(below, "abr")] == [None, None]


def test_what_the_future_would_allow_is_told_of_numbers_above_zero_only():
    row = Row(
        name="row",
        title="",
        paper="",
        task="abr",
        settings=("3g",),
        policies=("hindsight", "soda", "bba"),
        models=(),
    )
    qoe = {"hindsight": 1.0, "soda": 0.5, "bba": -1.0}
    lines = [
        Line(Contender(row, name), "3g", result_of(name, [one] * 6, "3g")[1])
        for name, one in qoe.items()
    ]
    found = of_lines(row, lines, {})
    assert found.shares() == {("3g", "hindsight"): 1.0, ("3g", "soda"): 0.5}
    shares = [one["contender"] for one in found.numbers() if one["metric"] == "share of the bound"]
    assert shares == ["hindsight", "soda"]


def test_a_number_tells_the_data_by_their_digest():
    row = Row(
        name="row", title="", paper="", task="abr", settings=("3g",), policies=("bba",), models=()
    )
    _, entry, _ = result_of("bba", [1.0] * 6, "3g")
    entry.made["sources"] = {"3g": [{"kind": "traces", "name": "mine", "sha256": "ab" * 32}]}
    found = of_lines(row, [Line(Contender(row, "bba"), "3g", entry)], {})
    assert next(found.numbers())["data"] == f"traces mine {'ab' * 32}"


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ({"made": {"made_at": "2026-12-01"}}, "made.versions"),
        ({"made": {"versions": {"netllm": "0.1.0"}}}, "made.made_at"),
        ({"result": None}, "result, or why it failed"),
    ],
)
def test_an_entry_that_lacks_what_the_report_tells_is_refused_by_name(tmp_path, change, lacking):
    _, entry, _ = result_of("bba", [1.0] * 6)
    Ledger(tmp_path).add("abr", "bba", {"default": entry})
    path = tmp_path / "abr" / "bba.json"
    document = json.loads(path.read_text())
    document["entries"]["default"] |= change
    (path.parent / "mpc.json").write_text(json.dumps(document))
    assert Ledger(tmp_path).entries("abr", "bba")
    with pytest.raises(ValueError, match=rf"mpc\.json: the entry 'default' must hold {lacking}"):
        Ledger(tmp_path).entries("abr", "mpc")


def test_the_labels_of_what_lacks_pretraining_are_explained_as_in_the_documents():
    asked = [row for row in read("full").rows if row.subject]
    assert {name for row in asked for name in (row.subject, *row.against)} == {*KINDS}
    text = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    for name, what in KINDS.items():
        assert f"| `{name}` | {what} |" in text


def test_contenders_of_different_episodes_have_no_common_rank():
    with pytest.raises(ValueError, match="A paired difference needs the same episodes"):
        standings([result_of("soda", [2.0] * 6), result_of("bba", [1.0] * 5)], "abr")


def test_rows_of_one_setting_share_a_board_and_a_question_of_pretraining_has_none():
    def found(name, policies, **how):
        row = Row(
            name=name,
            title="",
            paper="",
            task="abr",
            settings=("default",),
            policies=policies,
            models=(),
            **how,
        )
        lines = [
            Line(Contender(row, one), "default", result_of(one, [1.0] * 6)[1]) for one in policies
        ]
        report = Report(results=[], comparisons=[], provenance={}, metrics=())
        return Finding(row, report, tuple(lines))

    rows = [
        found("abr", ("bba", "mpc")),
        found("abr-six", ("mpc", "soda")),
        found("abr-kinds", ("panda",), subject="pretrained"),
        found("abr-slow", ("bola",), set={"latency_s": 1}),
    ]
    assert {where: [one[0] for one in some] for where, some in boards(rows)["abr"].items()} == {
        "default": ["bba", "mpc", "soda"],
        "default, latency_s=1": ["bola"],
    }


def test_the_page_says_of_each_kind_of_model_what_the_report_says():
    page = Path(__file__).parents[2].joinpath("docs", "reproduce.md").read_text("utf-8")
    for name, what in KINDS.items():
        assert f"| `{name}` | {what} |" in page


def test_one_seed_tells_by_its_interval_and_values_are_compared_with_their_like():
    level = [1.0, 2.0, 1.5, 2.5, 3.0, 1.0]
    worse = [x - 0.5 + 0.01 * i for i, x in enumerate(level)]
    found = gain(
        "abr", ("default",), ("ours", 0, 4, worse), ("other", 0, 4, level), ("other", 0, 8, level)
    )
    (line,) = [*table(found)][2:]
    assert re.fullmatch(r"\| `other`, blocks: 4 \| -0\.475 \[-0\.\d+, -0\.\d+\] loses \|", line)
    told = "loses in 1 (most against `other` in default, blocks: 4, -0.475)."
    assert statement(found).endswith(
        f"comparisons of `ours` with what lacks its pre-training: {told}"
    )


def test_backbones_of_experiments_are_what_they_say(tmp_path, caplog):
    with caplog.at_level("INFO"):
        make("markov", tmp_path / "markov", layers=1, steps=40)
    last, least, first = (float(n) for n in re.findall(r"\d+\.\d+", caplog.messages[-1]))
    assert least < last < first
    kept = load_backbone(str(tmp_path / "markov"), dtype="float32")
    assert (len(kept.layers), kept.config.hidden_size) == (1, 576)
    make("mean", tmp_path / "mean", layers=1)
    mean = load_backbone(str(tmp_path / "mean"), dtype="float32")
    tokens = torch.randn(1, 5, 576, generator=torch.Generator().manual_seed(0))
    norm = partial(torch.nn.functional.rms_norm, normalized_shape=(576,), eps=1e-5)
    before = norm(tokens).cumsum(1) / torch.arange(1, 6)[:, None]
    with torch.no_grad():
        seen = mean(inputs_embeds=tokens).last_hidden_state
    torch.testing.assert_close(seen, norm(tokens + before))
    with pytest.raises(ValueError, match="Did you mean markov"):
        make("markow", tmp_path / "more", layers=1)


def test_what_scripts_measured_is_read_where_the_ledger_lies(tmp_path):
    measure = Measure(
        name="cost",
        title="",
        paper="",
        script="cost",
        at="kinds",
        label=("kind", "bits"),
        columns={"s": "steps.1.s", "GiB": "gib"},
    )
    assert measured(measure, tmp_path).cells == {}
    lines = [
        {"kind": "low rank", "bits": 4, "steps": [0, {"s": 1234.5}]},
        {"kind": "full", "bits": 8},
    ]
    document = {"machine": {"cpu": "Z80"}, "kinds": [*lines, {"kind": "x", "bits": 1, "gib": 0.5}]}
    (tmp_path / "cost.json").write_text(json.dumps(document))
    found = measured(measure, tmp_path)
    assert [*found.table()] == [
        "| Z80 | s | GiB |",
        "|---|---:|---:|",
        "| low rank 4 | 1,234 | - |",
        "| x 1 | - | 0.5 |",
    ]
    told = [(one["contender"], one["metric"], one["mean"]) for one in found.numbers()]
    assert told == [("low rank 4", "s", 1234.5), ("x 1", "GiB", 0.5)]
    (tmp_path / "cost.json").write_text('{"kinds": 3}')
    with pytest.raises(ValueError, match=r"cost\.json: must hold lines at 'kinds'"):
        measured(measure, tmp_path)


@pytest.mark.parametrize("measure", read("full").measures, ids=lambda one: one.name)
def test_every_measure_has_a_script_and_its_document(measure):
    benchmarks = ROOT / "benchmarks"
    assert (benchmarks / f"{measure.script}.py").is_file()
    cells = measured(measure, benchmarks / "results").cells
    assert cells
    told = {name for line in cells.values() for name, value in line.items() if value is not None}
    assert told == {*measure.columns}


def test_a_day_trains_nothing():
    day = read("day")
    models = {name for row in day.rows for name in row.models}
    assert models
    assert all(day.models[name].checkpoint for name in models)
    assert "rollout" not in {name for row in day.rows for name in row.policies}
