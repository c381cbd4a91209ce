"""Tag the version that a package's pyproject.toml states: `python tools/release.py netllm-heads`.

Refuses unless the work tree is clean, the version has no tag yet, the package's CHANGELOG opens
with that version and a date, and every sibling's range admits it. Needs `packaging`, as nox does.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
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
    files = [*ROOT.glob("packages/*/pyproject.toml"), ROOT / "integration/pyproject.toml"]
    tables = [(file.parent, tomllib.loads(file.read_text())["project"]) for file in files]
    return {table["name"]: (folder, table) for folder, table in tables}


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


def left_out(name: str, version: str) -> list[str]:
    """Return what siblings demand of `name` that `version` is not."""
    return [
        f"{sibling} demands {line}: widen or raise that range"
        for sibling, (_, table) in projects().items()
        for lines in (table["dependencies"], *table.get("optional-dependencies", {}).values())
        for line in lines
        if Requirement(line).name == name and version not in Requirement(line).specifier
    ]


def main() -> int:
    """Check, tag, and say what to push."""
    packages = projects()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", choices=sorted(packages))
    name = parser.parse_args().package
    folder, table = packages[name]
    version = table["version"]
    if found := refusals(name, version, folder) + left_out(name, version):
        print(*found, sep="\n", file=sys.stderr)
        return 1
    tag = f"{name}-v{version}"
    git("tag", "--annotate", tag, "--message", f"{name} {version}")
    print(f"tagged {tag}; publish it with `git push origin {tag}`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
