"""Tag the version that a package's pyproject.toml states: `python tools/release.py netllm-heads`.

Refuses unless the work tree is clean, the version has no tag yet, the package's CHANGELOG opens
with that version and a date, the ranges between it and its siblings admit the work tree's versions,
and the siblings that it demands are released. `--order` prints the order in which all can be.
Needs `packaging`, as nox does.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def git(*arguments: str) -> str:
    """Return what git prints."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, text=True, capture_output=True
    ).stdout.strip()


def projects() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return the folder and the `project` table of every package, by its name."""
    files = [*sorted(ROOT.glob("packages/*/pyproject.toml")), ROOT / "integration/pyproject.toml"]
    tables = [(file.parent, tomllib.loads(file.read_text())["project"]) for file in files]
    return {table["name"]: (folder, table) for folder, table in tables}


def demands() -> Iterator[tuple[str, Requirement]]:
    """Yield what each package demands of a sibling, with the package's name; extras count too."""
    packages = projects()
    for name, (_, table) in packages.items():
        for lines in (table["dependencies"], *table.get("optional-dependencies", {}).values()):
            for need in map(Requirement, lines):
                if need.name in packages and need.name != name:
                    yield name, need


def order() -> list[str]:
    """Return the names of all packages, each after those that it demands."""
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(projects(), ()))
    for name, need in demands():
        sorter.add(name, need.name)
    return list(sorter.static_order())


def refusals(name: str, version: str, folder: Path) -> list[str]:
    """Return the reasons why `version` of `name` must not be tagged."""
    found = []
    if changed := git("status", "--porcelain"):
        found.append(f"the work tree must be clean, but has changes:\n{changed}")
    if git("tag", "--list", f"{name}-v{version}"):
        found.append(f"{name}-v{version} is tagged already: raise `version` in {folder}")
    changelog = (folder / "CHANGELOG.md").read_text()
    heading = next((line for line in changelog.splitlines() if line.startswith("## ")), "")
    if not re.fullmatch(rf"## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", heading):
        found.append(f"CHANGELOG.md must open with `## {version} (YYYY-MM-DD)`, not `{heading}`")
    return found


def left_out(name: str) -> Iterator[str]:
    """Yield the ranges of `name`, and those for it, that nobody could install."""
    packages = projects()
    for demanding, need in demands():
        version = packages[need.name][1]["version"]
        if name in (demanding, need.name) and version not in need.specifier:
            yield f"{demanding} demands {need}, not {version}: widen or raise that range"
        tags = git("tag", "--list", f"{need.name}-v*").split()
        versions = [tag.removeprefix(f"{need.name}-v") for tag in tags]
        if name == demanding and not any(need.specifier.filter(versions)):
            yield f"{name} demands {need}, of which no version is tagged: release {need.name} first"


def main() -> int:
    """Check, tag, and say what to push; or print the order."""
    packages = projects()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("package", nargs="?", choices=sorted(packages))
    what.add_argument("--order", action="store_true", help="print all, siblings first")
    options = parser.parse_args()
    if options.order:
        print(*order(), sep="\n")
        return 0
    name = options.package
    folder, table = packages[name]
    version = table["version"]
    if found := [*refusals(name, version, folder), *left_out(name)]:
        print(*found, sep="\n", file=sys.stderr)
        return 1
    tag = f"{name}-v{version}"
    git("tag", "--annotate", tag, "--message", f"{name} {version}")
    print(f"tagged {tag}; publish it with `git push origin {tag}`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
