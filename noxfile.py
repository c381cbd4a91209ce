"""Every check of this repository; `nox -l` lists them, CONTRIBUTING.md says when to run which."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import nox
from packaging.requirements import Requirement
from packaging.version import Version

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|venv"
nox.options.sessions = ["lint", "types", "tests"]

# Otherwise uv takes a sibling from the workspace, whatever range is declared.
os.environ["UV_NO_SOURCES"] = "1"

PARALLEL = 2
"""How many tests run at once; `-- -n 0` runs them one after another, `-- -n 8` eight at once."""
ROOT = Path(__file__).parent
DIST = ROOT / "dist"
PYPROJECTS = [*sorted(ROOT.glob("packages/*/pyproject.toml")), ROOT / "integration/pyproject.toml"]
PROJECTS = {path.parent: nox.project.load_toml(path) for path in PYPROJECTS}
PACKAGES = {config["project"]["name"]: path for path, config in PROJECTS.items()}
SOURCES = [str(path / "src") for path in PACKAGES.values()]
EDITABLE = [f"-e{path}" for path in PACKAGES.values()]

TASKS = [*PROJECTS[PACKAGES["netllm"]]["project"]["entry-points"]["netllm.tasks"]]
BACKBONE = "smollm2-135m"
SIBLINGS = ("workspace", "tagged")
LIBRARIES = ("lowest", "newest")
FLOORED = {
    "netllm-encoders": ("vision", "graph"),
    "netllm-adapt": ("wandb",),
    "netllm": ("serve", "real", "ray", "sweep", "explain"),
}
"""Extras whose lowest releases `minimums` tests too."""
CELL_TAGS = {
    # `minimums` and `tests`, which `ci` has, run these files too: all at their lowest, and newest.
    ("workspace", "lowest"): "workspace",
    ("workspace", "newest"): "workspace",
    ("tagged", "lowest"): "tagged",
    ("tagged", "newest"): "tagged",
}


def requirements(name: str, extras: Sequence[str] = ()) -> list[Requirement]:
    project = PROJECTS[PACKAGES[name]]["project"]
    optional = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in (*project["dependencies"], *optional)]


def siblings(name: str) -> set[str]:
    """The packages of this repository that `name` needs, directly or through another."""
    direct = {need.name for need in requirements(name) if need.name in PACKAGES}
    return direct.union(*map(siblings, direct))


def floors(name: str, *only: str, extras: Sequence[str] = ()) -> list[str]:
    """The lowest release that each range declared by `name` admits, as an exact requirement.

    Not of torch: its earlier releases come with some gigabytes of CUDA.

    Args:
        name: of the package.
        only: names of what it needs; all if none.
        extras: those of its extras to include.
    """
    return [
        f"{need.name}=={bound.version}"
        for need in requirements(name, extras)
        if need.name not in {*PACKAGES, "torch"} and (not only or need.name in only)
        for bound in need.specifier
        if bound.operator == ">="
    ]


def group(name: str, config: dict[str, Any] | None = None) -> tuple[str, ...]:
    """The requirements of a dependency group, of the root's unless another `config` is given."""
    config = config or nox.project.load_toml(ROOT / "pyproject.toml")
    return nox.project.dependency_groups(config, name)


def test_groups() -> set[str]:
    return {need for config in PROJECTS.values() for need in group("test", config)}


def last_tag(session: nox.Session, name: str) -> str | None:
    """The newest tagged version of `name` that the workspace's `netllm` admits."""
    tags = session.run_install("git", "tag", "--list", f"{name}-v*", external=True, silent=True)
    versions = [Version(tag.removeprefix(f"{name}-v")) for tag in str(tags or "").split()]
    admits = next(need.specifier for need in requirements("netllm") if need.name == name)
    admitted = [version for version in versions if version in admits]
    return str(max(admitted)) if admitted else None


def released(session: nox.Session, name: str, version: str) -> Path:
    """The source of an earlier release, taken from its tag: no index is asked."""
    where = Path(session.create_tmp()) / f"{name}-{version}"
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    archive = f"{where}.tar"
    folder = PACKAGES[name].relative_to(ROOT)
    session.run_install(
        "git", "archive", "-o", archive, f"{name}-v{version}", str(folder), external=True
    )
    shutil.unpack_archive(archive, where)
    return where / folder


@nox.session(tags=["ci"])
def lint(session: nox.Session) -> None:
    """Check the style, and who imports whom."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", env={"PYTHONPATH": os.pathsep.join(SOURCES)})
    session.run("python", "tools/house.py", "--check")


@nox.session(tags=["ci"])
def types(session: nox.Session) -> None:
    """Check the types of every package and of the examples."""
    session.install(*EDITABLE, *group("types"))
    session.run("mypy", *SOURCES, "examples/congestion-control/src", "examples/own-loop")


def run_tests(session: nox.Session, *arguments: str) -> None:
    """Run pytest, several tests at once: their networks are so tiny that one thread is enough."""
    # A file's tests share what is dear to make, so they stay together.
    parallel = (f"-n{PARALLEL}", "--dist=loadfile")
    session.run("pytest", *parallel, *arguments, env={"OMP_NUM_THREADS": "1"})


def test_alone(session: nox.Session, name: str, *bounds: str) -> None:
    """Run the tests of the built package `name` with only what it declares, within `bounds`."""
    needed = [PACKAGES[name], *(PACKAGES[need] for need in sorted(siblings(name)))]
    session.install(*map(str, needed), *bounds, *group("test", PROJECTS[PACKAGES[name]]))
    run_tests(session, str(PACKAGES[name]), *session.posargs)


@nox.session(tags=["ci"])
def tests(session: nox.Session) -> None:
    """Run every test of every package in one environment: what must be green before a commit."""
    # Trackio needs a later huggingface-hub than the lowest, so no group of `minimums` may have it.
    trackio = f"-e{PACKAGES['netllm-adapt']}[trackio]"
    session.install(*EDITABLE, trackio, *test_groups())
    run_tests(session, *session.posargs)


def isolated(name: str) -> None:
    """Register the session that tests the package `name` alone."""

    def run(session: nox.Session) -> None:
        test_alone(session, name)

    run.__doc__ = f"Test the built {name} with nothing installed but what it declares."
    nox.session(run, name=f"tests-{name}", tags=["isolated"])


for package in PACKAGES:
    isolated(package)


@nox.session
@nox.parametrize(
    ("task", "origin", "libraries"),
    [
        nox.param(*cell, id="-".join(cell), tags=[CELL_TAGS[cell[1:]]])
        for cell in product(TASKS, SIBLINGS, LIBRARIES)
    ],
)
def integration(session: nox.Session, task: str, origin: str, libraries: str) -> None:
    """Run one task end to end; `-- netllm-heads==0.1.0` takes that sibling from its tag."""
    pins = dict(arg.split("==") for arg in session.posargs if "==" in arg)
    others = [arg for arg in session.posargs if "==" not in arg]
    if strangers := pins.keys() - PACKAGES.keys():
        session.error(f"{', '.join(strangers)}: must be one of {', '.join(PACKAGES)}")
    for name in sorted(siblings("netllm") - pins.keys()) if origin == "tagged" else ():
        if not (version := last_tag(session, name)):
            session.skip(f"no tag {name}-v… that the workspace's netllm admits")
        pins[name] = version
    paths = [released(session, n, pins[n]) if n in pins else path for n, path in PACKAGES.items()]
    lowest = floors("netllm-adapt", "transformers", "peft") if libraries == "lowest" else []
    session.install(*map(str, paths), *lowest, *group("test", PROJECTS[PACKAGES["netllm"]]))
    run_tests(session, str(PACKAGES["netllm"] / "tests" / f"test_{task}.py"), *others)


@nox.session(tags=["ci"])
@nox.parametrize("package", [nox.param(name, id=name) for name in PACKAGES])
def minimums(session: nox.Session, package: str) -> None:
    """Test one package with the lowest release of everything that it declares but torch.

    Of some extras too: of timm, whose earlier releases would run what a file of weights holds, of
    torch-geometric, and of what serves models and drives players.
    """
    test_alone(session, package, *floors(package, extras=FLOORED.get(package, ())))


@nox.session(tags=["ci"])
def build(session: nox.Session) -> None:
    """Build every wheel and sdist into dist/, check what would be uploaded, install from it."""
    session.install(*group("build"))
    direct = Path(session.create_tmp()) / "direct"
    for folder in (DIST, direct):
        shutil.rmtree(folder, ignore_errors=True)
    command = ("pyproject-build", f"--installer={'uv' if session.venv_backend == 'uv' else 'pip'}")
    for path in PACKAGES.values():
        session.run(*command, f"--outdir={DIST}", str(path))
        session.run(*command, "--wheel", f"--outdir={direct}", str(path))
    built = sorted(DIST.glob("*.whl"))  # each from its sdist
    for wheel in built:
        if wheel.read_bytes() != (direct / wheel.name).read_bytes():
            session.error(f"{wheel.name}: the sdist must make the wheel that the work tree makes")
    session.run("twine", "check", "--strict", *map(str, DIST.iterdir()))
    session.run("check-wheel-contents", *map(str, built))
    session.notify("wheels")


@nox.session
def wheels(session: nox.Session) -> None:
    """Install by name what `build` left in dist/, and let the shipped policies decide."""
    # An index may have a stranger's packages of these names, and uv's cache the last build's.
    local = ("--no-index", "--no-cache-dir", f"--find-links={DIST}")
    session.install(*local, "--no-deps", *PACKAGES)
    session.install("netllm[serve,vision]", "netllm-encoders[graph]")
    session.run("python", "tools/installed.py", *map(str, DIST.glob("*.whl")))
    modules = [name.replace("-", "_") for name in PACKAGES]
    session.cd(session.create_tmp())
    session.run("python", "-c", f"import {', '.join(modules)}, fastapi, timm, torch_geometric")
    session.run("netllm", "--help")
    session.run("netllm", "test", "abr", "--setting", "synthetic", "--episodes", "2")


@nox.session(tags=["rehearsal"])
def rehearsal(session: nox.Session) -> None:
    """Release all in a copy of this work tree, and run a task there with siblings from tags."""
    session.install("nox")
    root = Path(session.create_tmp()) / "released"
    shutil.rmtree(root, ignore_errors=True)
    session.run("python", "tools/rehearsal.py", str(root))
    cells = session.posargs or ["-s", "integration(abr-tagged-newest)"]
    session.run("nox", "-f", str(root / "noxfile.py"), *cells)


@nox.session(tags=["ci"])
def docs(session: nox.Session) -> None:
    """Make the documents in docs/_build: every warning is an error."""
    session.install(*EDITABLE, *group("docs"))
    options = ("-q", "-W", "--keep-going")
    session.run("sphinx-build", *options, *session.posargs, "docs", "docs/_build")


@nox.session
def coverage(session: nox.Session) -> None:
    """Run every test and list the lines that none reached."""
    session.install(*EDITABLE, *test_groups(), *group("coverage"))
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report")


@nox.session
def mutations(session: nox.Session) -> None:
    """Give each loader 1,000 damaged inputs: none may crash, hang, or load as something else."""
    session.install(*EDITABLE, *test_groups())
    session.run("python", "tools/mutations.py", *session.posargs)


@nox.session
def backbone(session: nox.Session) -> None:
    """Pull the real language model that some tests need (about 90 MB, once)."""
    session.install(*EDITABLE)
    session.run("netllm", "backbone", "pull", *(session.posargs or [BACKBONE]))


@nox.session
def quickstart(session: nox.Session) -> None:
    """Install everything and run `netllm quickstart`: from traces to an adapted model."""
    session.install(*EDITABLE)
    session.run("netllm", "quickstart", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Pull the backbone and run every script of benchmarks/, each in its quick form."""
    session.install(*EDITABLE, f"-e{PACKAGES['netllm']}[ray]")
    session.run("netllm", "backbone", "pull", BACKBONE)
    for script in sorted((ROOT / "benchmarks").glob("[!_]*.py")):
        # Without a GPU gpu.py says so and exits with 1.
        codes = [0, 1] if script.name == "gpu.py" else [0]
        session.run("python", str(script), "--quick", *session.posargs, success_codes=codes)


def disturb(session: nox.Session, script: str, kills: str, *more: str) -> None:
    """Run a script of the tests that kills what it has begun."""
    session.install(*EDITABLE, *more)
    folder = Path(session.create_tmp()) / "kills"
    shutil.rmtree(folder, ignore_errors=True)
    path = PACKAGES["netllm"] / "tests" / script
    session.run("python", str(path), str(folder), *(session.posargs or ["--kills", kills]))


@nox.session
def kills(session: nox.Session) -> None:
    """Kill commands at writes, fsyncs, renames and at random; `-- --kills 400`: at every one."""
    disturb(session, "kills.py", "100")


@nox.session
def worker_kills(session: nox.Session) -> None:
    """Kill, stop and leave without room processes that share a run, a collection or a sweep."""
    disturb(session, "kills_of_workers.py", "30", f"-e{PACKAGES['netllm']}[ray,sweep]")
