"""Releases that are made in a copy of this work tree, and old packages beside new ones."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
MARK = "# released as "
"""What the source of netllm-heads ends with since its first release."""
WHO = f"""
from importlib.metadata import version
from importlib.util import find_spec
code = open(find_spec("netllm_heads").origin).read()
print(version("netllm"), version("netllm-heads"), *code.split("{MARK}")[1:][-1:])
"""
COMMANDS = """
import sys
from netllm.cli import main
sys.exit(any(main(line.split()) for line in sys.argv[1:]))
"""
COLLECT = "rl-collect abr --setting synthetic --policy bba --episodes 2 --out pool"
ADAPT = (
    "adapt abr --pool pool --backbone tiny-random --layers 1 --rank 2 --dtype float32 --steps 2 "
    "--batch 2 --validation 1 --out"
)
TEST = "test abr --setting synthetic --episodes 2 --policy bba --checkpoint"


@pytest.fixture(scope="module")
def rehearsal():
    if not shutil.which("git") or subprocess.call(["git", "-C", str(ROOT), "rev-parse", "HEAD"]):
        pytest.skip("needs git, and a clone of the repository that it trusts")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        return importlib.import_module("rehearsal")


@pytest.fixture(scope="module")
def unreleased(rehearsal, tmp_path_factory):
    """A copy of this work tree in which nothing is tagged."""
    root = tmp_path_factory.mktemp("unreleased")
    rehearsal.copy(root)
    return root


@pytest.fixture(scope="module")
def released(rehearsal, unreleased, tmp_path_factory):
    """A copy in which every package is tagged."""
    root = shutil.copytree(unreleased, tmp_path_factory.mktemp("released") / "copy")
    rehearsal.release_all(root)
    return root


@pytest.fixture
def scratch(released, tmp_path):
    """The same, for one test to change."""
    return shutil.copytree(released, tmp_path / "scratch")


@pytest.fixture
def refusal(rehearsal):
    """Try to release a package of a copy: why tools/release.py refuses to."""

    def run(root, name):
        before = rehearsal.run(root, "git", "tag").stdout
        done = rehearsal.release(root, name)
        assert (done.returncode, done.stdout) == (1, "")
        assert rehearsal.run(root, "git", "tag").stdout == before
        return done.stderr

    return run


def folder(root, name):
    return root / ("integration" if name == "netllm" else f"packages/{name}")


def version(root, name):
    text = (folder(root, name) / "pyproject.toml").read_text()
    return re.search(r'(?m)^version = "(.+)"$', text)[1]


def patched(root, name):
    """The version after a package's."""
    now = Version(version(root, name))
    return f"{now.major}.{now.minor}.{now.micro + 1}"


def edit(file, pattern, new):
    text, changes = re.subn(pattern, new, file.read_text(encoding="utf-8"), count=1)
    assert changes, f"{file} has no {pattern}"
    file.write_text(text, encoding="utf-8")


def test_packages_are_released_after_those_that_they_demand(rehearsal, released):
    order = rehearsal.run(released, sys.executable, "tools/release.py", "--order").stdout.split()
    tags = rehearsal.run(released, "git", "tag").stdout.split()
    assert {f"{name}-v{version(released, name)}" for name in order} == set(tags)
    assert len(order) == len(tags) == 6
    assert order.index("netllm-sims") < order.index("netllm-baselines") < order.index("netllm") == 5


def test_a_package_before_one_that_it_demands_is_refused(rehearsal, unreleased, refusal, tmp_path):
    root = shutil.copytree(unreleased, tmp_path / "scratch")
    rehearsal.prepare(root, "netllm-baselines", version(root, "netllm-baselines"))
    why = refusal(root, "netllm-baselines")
    said = r"netllm-baselines demands netllm-sims\S+, of which no version is tagged: "
    assert re.fullmatch(f"{said}release netllm-sims first\n", why), why


def test_a_work_tree_with_changes_is_refused(rehearsal, scratch, refusal):
    rehearsal.prepare(scratch, "netllm-heads", patched(scratch, "netllm-heads"))
    (scratch / "new.txt").write_text("new")
    why = refusal(scratch, "netllm-heads")
    assert why == "the work tree must be clean, but has changes:\n?? new.txt\n"


def test_a_version_that_is_tagged_is_refused(scratch, refusal):
    why = refusal(scratch, "netllm-heads")
    tag = f"netllm-heads-v{version(scratch, 'netllm-heads')}"
    assert why.startswith(f"{tag} is tagged already: raise `version` in ")


@pytest.mark.parametrize("heading", ["## 99.0 (unreleased)", "## 99.0", "## 98.0 (2026-01-31)"])
def test_a_changelog_without_the_version_and_its_date_is_refused(
    rehearsal, scratch, refusal, heading
):
    rehearsal.prepare(scratch, "netllm", "99.0")
    edit(folder(scratch, "netllm") / "CHANGELOG.md", r"## 99\.0 .*", heading)
    rehearsal.commit(scratch, "another heading")
    why = refusal(scratch, "netllm")
    assert why == f"CHANGELOG.md must open with `## 99.0 (YYYY-MM-DD)`, not `{heading}`\n"


def test_a_version_outside_of_a_range_for_it_is_refused(rehearsal, scratch, refusal):
    rehearsal.prepare(scratch, "netllm-heads", "99.0")
    why = refusal(scratch, "netllm-heads")
    said = r"netllm demands netllm-heads\S+, not 99\.0: widen or raise that range\n"
    assert re.fullmatch(said, why), why


def test_a_range_that_leaves_out_the_version_beside_it_is_refused(rehearsal, scratch, refusal):
    project = folder(scratch, "netllm") / "pyproject.toml"
    edit(project, r'"netllm-heads>=.+"', '"netllm-heads>=99"')
    rehearsal.prepare(scratch, "netllm", patched(scratch, "netllm"))
    why = refusal(scratch, "netllm")
    assert why == (
        f"netllm demands netllm-heads>=99, not {version(scratch, 'netllm-heads')}: "
        "widen or raise that range\n"
        "netllm demands netllm-heads>=99, of which no version is tagged: "
        "release netllm-heads first\n"
    )


@pytest.fixture(scope="module")
def wheels(rehearsal, released, tmp_path_factory):
    """A folder of wheels, each made from its tag, and versions by package and by what they are.

    Of netllm-heads the first, its patch, and the next one, which leaves the first one's range; of
    netllm the first, and a later one whose range is wider.
    """
    place = tmp_path_factory.mktemp("wheels")
    root = shutil.copytree(released, place / "copy")
    project = folder(root, "netllm") / "pyproject.toml"
    end = re.search(r'"netllm-heads>=[\d.]+,<([\d.]+)"', project.read_text())[1]
    first = {(name, "first"): version(root, name) for name in ("netllm", "netllm-heads")}
    later = {
        ("netllm-heads", "patch"): patched(root, "netllm-heads"),
        ("netllm", "later"): patched(root, "netllm"),
        ("netllm-heads", "next"): f"{end}.0",
    }
    edit(project, rf'("netllm-heads>=.+,<{re.escape(end)})"', r'\1.9"')
    for (name, _), number in later.items():
        if name == "netllm-heads":
            with (folder(root, name) / "src/netllm_heads/__init__.py").open("a") as file:
                file.write(f"{MARK}{number}\n")
        rehearsal.prepare(root, name, number)
        rehearsal.release(root, name).check_returncode()
    build = (
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target=wheel",
        "-d",
        str(place / "made"),
    )
    for tag in rehearsal.run(root, "git", "tag").stdout.split():
        source = folder(place / tag, tag.rpartition("-v")[0])
        archive = ("archive", "-o", f"../{tag}.zip", tag, str(source.relative_to(place / tag)))
        rehearsal.run(root, "git", *archive).check_returncode()
        shutil.unpack_archive(place / f"{tag}.zip", place / tag)
        rehearsal.run(source, *build).check_returncode()
    return place / "made", first | later


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Run Python with the libraries that are installed here, but none of our packages."""
    root = tmp_path_factory.mktemp("python")
    venv.create(root, symlinks=True)
    (site,) = root.glob("lib/*/site-packages")
    for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(installed).iterdir():
            if "netllm" not in entry.name:
                (site / entry.name).symlink_to(entry)
    outside = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    outside.pop("NETLLM_DATA", None)

    def run(*words):
        command = [root / "bin" / "python", *words]
        return subprocess.run(command, cwd=root, env=outside, text=True, capture_output=True)

    return run


@pytest.fixture(scope="module")
def install(wheels, python):
    """Install netllm and netllm-heads by name in some versions, and what they demand."""
    place, versions = wheels

    def run(netllm, heads):
        chosen = (versions["netllm", netllm], versions["netllm-heads", heads])
        pip = ("-m", "pip", "--isolated", "install", "--no-index", "--find-links", place)
        return chosen, python(*pip, f"netllm=={chosen[0]}", f"netllm-heads=={chosen[1]}")

    return run


@pytest.mark.parametrize(
    ("netllm", "heads"),
    [
        ("first", "first"),
        ("first", "patch"),
        ("later", "first"),
        ("later", "patch"),
        ("later", "next"),
    ],
)
def test_ranges_admit_old_beside_new(install, python, netllm, heads):
    chosen, done = install(netllm, heads)
    assert not done.returncode, done.stderr
    mark = [] if heads == "first" else chosen[1:]
    assert python("-c", WHO).stdout.split() == [*chosen, *mark]


def test_a_release_outside_of_the_range_is_refused(install):
    (netllm, heads), done = install("first", "next")
    assert done.returncode
    assert f"Cannot install netllm-heads=={heads} and netllm=={netllm}" in done.stderr
    assert f"netllm {netllm} depends on netllm-heads<" in done.stdout + done.stderr


def test_old_beside_new_collects_adapts_and_tests_and_so_do_others_with_what_it_made(
    install, python
):
    for (netllm, heads), commands in {
        ("first", "patch"): (COLLECT, f"{ADAPT} one", f"{TEST} one"),
        ("later", "first"): (f"{TEST} one", f"{ADAPT} other", f"{TEST} other"),
    }.items():
        done = install(netllm, heads)[1]
        assert not done.returncode, done.stderr
        done = python("-c", COMMANDS, *commands)
        assert not done.returncode, done.stderr
