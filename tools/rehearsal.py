"""Release every package in a copy of this work tree: `python tools/rehearsal.py FOLDER`.

The copy is a repository of its own, with no tags but those of its releases: `nox -t tagged` there
takes the siblings from them. Needs `packaging`, as tools/release.py does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

from release import ROOT, git, order, projects

SETTINGS = {
    "user.name": "Rehearsal",
    "user.email": "rehearsal@localhost",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
}


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a copy, and there only: within a hook GIT_DIR names another repository."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(command, cwd=root, env=outside, text=True, capture_output=True)


def commit(root: Path, message: str) -> None:
    """Commit all that has changed in a copy."""
    run(root, "git", "add", "--all").check_returncode()
    run(root, "git", "commit", "--quiet", "--allow-empty", "-m", message).check_returncode()


def copy(root: Path) -> None:
    """Copy the files of this work tree, committed or not, into a new repository."""
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    run(root, "git", "init", "--quiet").check_returncode()
    for name, value in SETTINGS.items():
        run(root, "git", "config", name, value).check_returncode()
    commit(root, "copied")


def prepare(root: Path, name: str, version: str) -> None:
    """Commit what CONTRIBUTING.md asks for before a release: the version, and its dated heading."""
    folder = root / projects()[name][0].relative_to(ROOT)
    project, changelog = folder / "pyproject.toml", folder / "CHANGELOG.md"
    text = re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', project.read_text(), count=1)
    project.write_text(text)
    above, heading, below = re.split(r"(?m)^(## .*)$", changelog.read_text(), maxsplit=1)
    earlier = "" if heading.startswith(f"## {version} ") else f"\n\n{heading}"
    changelog.write_text(f"{above}## {version} ({date.today()}){earlier}{below}")
    commit(root, f"{name} {version}")


def release(root: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run a copy's tools/release.py."""
    return run(root, sys.executable, "tools/release.py", name)


def release_all(root: Path) -> None:
    """Release every package of a copy as it is, in the order that tools/release.py prints."""
    for name in order():
        prepare(root, name, projects()[name][1]["version"])
        done = release(root, name)
        if done.returncode:
            raise SystemExit(done.stderr)
        print(done.stdout, end="")


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
    release_all(Path(sys.argv[1]))
