"""A reproduction makes what is missing, once, and its report holds every number."""

import asyncio
import csv
import inspect
import json
import re

import netllm as library
import pytest
from netllm import registry
from netllm.real.browser import PATIENCE_MS
from netllm.verbs import test as testing
from netllm.verbs.reproducing.experiments import Experiments, Model, Pool, Row, contenders, read
from netllm.verbs.reproducing.findings import finding
from netllm.verbs.reproducing.ledger import Ledger
from netllm.verbs.reproducing.work import Work

TESTS = 12
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
    assert [one.contender for one in left][:3] == ["pool abr", "pool cjs", "abr-scratch"]
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
    text = (out / "report.md").read_text()
    for row in read("fast").rows:
        metric = registry.task(row.task).metrics[0].key
        for one in numbers:
            if (one["row"], one["metric"]) == (row.name, metric):
                assert f"{float(one['mean']):.3f}" in text
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert str(out) not in page + text + (out / "numbers.csv").read_text()


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


def test_what_fails_is_a_finding(tmp_path):
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
    adapt = {"backbone": "scratch-16x1", "steps": 2, "learning_rate": 1e30, "validation": 1}
    pool = Pool(task="abr", rl_collect={"policy": "bba", "setting": "synthetic", "episodes": 4})
    bad = Model(task="abr", pool="p", adapt={**adapt, "batch": 2})
    whole = Experiments(rows=(row,), models={"bad": bad}, pools={"p": pool})
    work = Work(whole, tmp_path, Ledger(tmp_path / "ledger"), None, 1, "cpu")
    for one in contenders(row, whole.models):
        work.do(one)
    found = finding(work, row)
    told = found.failed()
    assert [one.partition(":")[0] for one in told] == ["bad in synthetic", "genet in synthetic"]
    assert "must have a finite loss" in told[0]
    assert [result.policy for result in found.report.results] == ["bba"]
    again = Work(whole, tmp_path, Ledger(tmp_path / "ledger"), None, 1, "cpu")
    assert finding(again, row).failed() == told


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
    for pool in whole.pools.values():
        assert {*pool.rl_collect} <= {*inspect.signature(library.rl_collect).parameters}


def test_a_day_trains_nothing():
    day = read("day")
    models = {name for row in day.rows for name in row.models}
    assert models
    assert all(day.models[name].checkpoint for name in models)
    assert "rollout" not in {name for row in day.rows for name in row.policies}
