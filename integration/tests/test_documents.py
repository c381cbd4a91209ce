"""Every command line of the documents is one that the program understands."""

import importlib
import json
import pkgutil
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from cyclopts.exceptions import CoercionError, MissingArgumentError, UnknownCommandError
from netllm import registry
from netllm.cli import app
from netllm.verbs.reproducing.pretraining import gains

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    file
    for pattern in ("*.md", "packages/*/README.md", "integration/*.md", "examples/*/*.md")
    for file in [*ROOT.glob(pattern), *ROOT.glob(f"docs/**/{pattern}")]
    if file.name != "CHANGELOG.md"
)
EXAMPLES = ("aimd", "delay", "unseen-swing")
"""Policies and a setting of the example's task."""
SHELLS = ("", "sh", "bash", "console", "shell", "text")
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.M | re.S)
MENTION = re.compile(r"`(netllm [^`]+)`")
CODE = re.compile(r"`([^`\n]+)`")
FOLDERS = ("benchmarks", "docs", "examples", "integration", "packages", "tools")
DOTTED = re.compile(r"(?:netllm(?:_[a-z]+)?)(?:\.\w+)+")
GROUPS = {f"netllm.{kind}" for kind in ("backbones", "encoders", "encoders.fields", "heads")}
"""Groups of entry points, which are no modules."""


def blocks(text):
    """The commands of the document's shell blocks."""
    for language, block in FENCE.findall(text):
        if language.strip() in SHELLS:
            yield from commands(block.replace("\\\n", " "))


def mentions(text):
    """The commands within the document's sentences and tables."""
    for mention in MENTION.findall(FENCE.sub("", text)):
        yield from commands(" ".join(mention.split()))


def commands(text):
    """The words of every line that is a command."""
    for line in text.splitlines():
        if re.match(r"(\$ )?netllm (?!COMMAND)", line) and "…" not in line:
            words = shlex.split(line.removeprefix("$ "), comments=True)[1:]
            # The example's task is not installed; its commands have the options of any other.
            yield ["abr" if word == "congestion" else word for word in words]


def cases(find):
    found = {
        (str(file.relative_to(ROOT)), tuple(words))
        for file in DOCUMENTS
        for words in find(file.read_text(encoding="utf-8"))
    }
    return [pytest.param(*one, id=f"{one[0]}: {' '.join(one[1])}") for one in sorted(found)]


@pytest.mark.parametrize(("file", "words"), cases(blocks))
def test_a_command_to_be_pasted_has_only_options_and_names_that_there_are(
    file, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if "--recipe" in words:
        recipe = Path(words[words.index("--recipe") + 1])
        recipe.parent.mkdir(parents=True)
        recipe.touch()
    _, bound, _ = app.parse_args(list(words))
    task = bound.arguments.get("task")
    if isinstance(task, str) and task in registry.tasks():
        for name in bound.arguments.get("policy", ()):
            assert ":" in name or name in [*registry.policies(task), *EXAMPLES]
        setting = bound.arguments.get("setting", ())
        for name in (setting,) if isinstance(setting, str) else setting:
            assert name in [*registry.task(task).settings(), *EXAMPLES]


@pytest.mark.parametrize(("file", "words"), cases(mentions))
def test_a_command_that_is_mentioned_has_only_options_that_there_are(file, words):
    try:
        app.parse_args(list(words))
    except MissingArgumentError:
        pass  # a sentence names the options that it is about
    except CoercionError as error:
        if error.token is None or not error.token.value.isupper():
            raise  # else a placeholder


def test_a_recipe_in_a_document_has_only_keys_that_there_are(tmp_path):
    recipes = [
        block
        for file in DOCUMENTS
        for language, block in FENCE.findall(file.read_text(encoding="utf-8"))
        if language == "toml" and block.startswith("command")
    ]
    assert recipes
    for number, recipe in enumerate(recipes):
        file = tmp_path / f"{number}.toml"
        file.write_text(recipe)
        command = tomllib.loads(recipe)["command"]
        app.parse_args([command, "abr", "--recipe", str(file), "--out", "x"])


def named(pattern):
    """By document what its code spans hold that matches a pattern as a whole."""
    return [
        (str(file.relative_to(ROOT)), text.split()[-1])
        for file in DOCUMENTS
        for text in CODE.findall(FENCE.sub("", file.read_text(encoding="utf-8")))
        if re.fullmatch(pattern, text.split()[-1])
    ]


def test_files_that_documents_name_are_there():
    paths = named(rf"(?:{'|'.join(FOLDERS)})/[\w./-]+")
    assert len(paths) > 20
    assert not [one for one in paths if not (ROOT / one[1]).exists()]


def test_the_tree_in_contributing_has_only_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tree,) = (block for language, block in FENCE.findall(text) if language == "text")
    lines = tree.splitlines()
    above = {-1: ROOT}
    for line in lines:
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        above[depth] = above[depth - 1] / name
        assert above[depth].exists(), f"{name} is not in {above[depth - 1]}"
    assert len(lines) > 40


def test_links_of_documents_lead_to_files():
    links = [
        (file, target)
        for file in DOCUMENTS
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", file.read_text(encoding="utf-8"))
    ]
    assert len(links) > 40
    assert not [(f.name, to) for f, to in links if not (f.parent / to).exists()]


def test_names_that_documents_mention_can_be_imported():
    names = [one for one in named(DOTTED) if one[1] not in GROUPS]
    assert len(names) > 20
    assert not [one for one in names if not _is_there(one[1])]


def _is_there(name):
    """Whether a dotted name is a module, or what one holds."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_tables_of_documents_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    names = ("ablation", "_documents", "graph_convolutions", "performance", "findings")
    ablation, documents, convolutions, performance, findings = map(importlib.import_module, names)
    names = ("explanations", "layers", "online_rl", "serving", "sizes", "student")
    explanations, layers, online_rl, serving, sizes, student = map(importlib.import_module, names)
    names = ("plan", "large_backbones", "vp_tiles", "trace_statistics", "replayed_traces")
    plan, large, tiles, traces, replayed = map(importlib.import_module, names)
    results = ROOT / "benchmarks" / "results"

    def saved(name):
        return json.loads((results / name).read_text(encoding="utf-8"))

    expected = {
        ("docs/tasks/cjs.md", "convolutions"): convolutions.table(saved("graph_convolutions.json")),
        ("docs/results.md", "ablation"): ablation.table(saved("ablation.json")),
        ("docs/results.md", "online"): online_rl.table(saved("online_rl.json")),
        ("docs/performance.md", "performance"): performance.table(results),
        ("docs/tasks/abr.md", "student"): student.table(saved("student.json")),
        ("docs/explain.md", "explanations"): explanations.table(
            saved("explanations.json")["tasks"]
        ),
        ("docs/tasks/abr.md", "layers"): layers.table(saved("layers.json")),
        ("docs/tasks/abr.md", "cellular"): traces.table(saved("trace_statistics.json")),
        ("docs/replayed-traces.md", "replayed"): replayed.table(saved("replayed_traces.json")),
        ("docs/serve.md", "serving"): serving.table(saved("serving.json")),
        ("docs/backbones.md", "sizes"): sizes.table(saved("sizes.json")),
        ("docs/tasks/vp.md", "tiles"): tiles.table(saved("vp_tiles.json")),
        ("docs/scale.md", "plan"): plan.table(saved("plan.json")),
        ("docs/scale.md", "large-memory"): large.memory_table(saved("large_backbones.json")),
        ("docs/scale.md", "large-time"): large.time_table(saved("large_backbones.json")),
    }
    for row in findings.read("full").rows:
        expected |= findings.tables(row.name)
    expected |= findings.leaderboards()
    for (document, mark), text in expected.items():
        assert documents.get(document, mark) == text, f"{document}: --documents writes it anew"


def test_numbers_in_the_readmes_sentences_are_those_of_the_ledger(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    findings = importlib.import_module("findings")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for without in (r"```.*?```", r"<!-- .*?: begin -->.*?: end -->", r"`[^`]*`", r"\]\([^)]*\)"):
        text = re.sub(without, "", text, flags=re.DOTALL)
    told = re.findall(r"(?<!Python )(?<![\d.])\d+\.\d+", text)
    assert told
    known = {f"{abs(number):.3f}" for row in findings.read("full").rows for number in _of(row)}
    for number in told:
        digits = len(number.partition(".")[2])
        assert number in {f"{float(one):.{digits}f}" for one in known}, f"README.md: {number}"


def _of(row):
    """The means of a row, and the differences that it tells."""
    found = importlib.import_module("findings").kept(row.name)
    metric = found.report.metrics[0].key
    yield from (one.metrics[metric].mean for one in found.report.results)
    yield from (one.difference.mean for one in found.report.comparisons)
    yield from (one.mean for one in gains(found))


@pytest.mark.parametrize("script", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda file: file.stem)
def test_every_benchmark_finds_what_it_imports(script, monkeypatch):
    monkeypatch.syspath_prepend(script.parent)
    try:
        assert importlib.import_module(script.stem).__doc__
    except ModuleNotFoundError as lack:
        if lack.name.startswith(("netllm", "_")):
            raise
        pytest.skip(f"needs {lack.name}")


def test_documents_are_there_to_be_checked():
    assert len(cases(blocks)) > 20
    assert len(cases(mentions)) > 10


def test_a_command_that_there_is_not_is_found():
    (words,) = blocks("```\nnetllm adpt abr \\\n  --out x\n```\n")
    assert words == ["adpt", "abr", "--out", "x"]
    with pytest.raises(UnknownCommandError):
        app.parse_args(words)
