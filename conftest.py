"""What holds for the tests of every package."""

import os
import re
import shlex
import tomllib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# The tests' networks are tiny: a second thread would only wait for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long one example takes is the machine's affair, not the code's.
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture
def room() -> Callable[[int], AbstractContextManager[None]]:
    """A block in which no file can grow beyond so many bytes: fails as a full disk does."""
    resource = pytest.importorskip("resource", reason="limits of file size are POSIX's")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(
    r"^```\{code-block\} \w+\n:caption: (\S+)\n\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def _commands(block: str) -> Iterator[list[str]]:
    """The words of every command of a console block, after its `$ `."""
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            yield shlex.split(line[2:], comments=True)


@pytest.fixture
def paste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the blocks of a document in order, as if pasted into one session.

    Python is executed; of a `console` block the commands after `$ ` are run; a block whose caption
    is the name of a file becomes that file. All stands in an empty folder, without real data.
    Gives the names of the Python session.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NETLLM_DATA", raising=False)

    def command(words: list[str]) -> None:
        from netllm.cli import main

        assert words[0] == "netllm", f"only commands of netllm are run, got {words}"
        assert main(words[1:]) == 0, f"the command failed: {shlex.join(words)}"

    def write(name: str, content: str) -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")

    def run(document: Path, *, without: Collection[str] = ()) -> dict[str, Any]:
        """Blocks that hold one of the words of `without` are left out."""
        text = document.read_text(encoding="utf-8")
        names: dict[str, Any] = {"__name__": "__main__"}
        found = [*_BLOCK.finditer(text), *_FILE.finditer(text)]
        for block in sorted(found, key=lambda one: one.start()):
            language, code = block.groups()
            if any(word in code for word in without):
                continue
            if block.re is _FILE:
                write(language, code)
            elif language == "python":
                before = "\n" * text.count("\n", 0, block.start(2))  # so that errors name the line
                exec(compile(before + code, str(document), "exec"), names)
            elif language == "console":
                for words in _commands(code):
                    command(words)
        return names

    return run


@pytest.fixture
def installs() -> Callable[[Path], list[list[str]]]:
    """What the `pip install` lines of a README's blocks name, if a clone can install it.

    Nothing is on a package index: a line names folders, with all siblings that they need.
    """
    root = Path(__file__).parent
    folders = [*root.glob("packages/*"), root / "integration"]
    projects = {f: tomllib.loads((f / "pyproject.toml").read_text())["project"] for f in folders}
    named = {project["name"]: folder for folder, project in projects.items()}

    def siblings(folder: Path) -> set[Path]:
        names = {re.split(r"[\[<>=]", need)[0] for need in projects[folder]["dependencies"]}
        direct = {named[name] for name in names & named.keys()}
        return direct.union(*map(siblings, direct))

    def check(line: str) -> list[str]:
        given = shlex.split(line.split("pip install")[1], comments=True)
        places = [word for word in given if word.startswith("./")]
        assert not [w for w in given if w.startswith("netllm")], f"no index has it: {line}"
        chosen = set()
        for place in places:
            path, _, extras = place.rstrip("]").partition("[")
            assert (root / path) in projects, f"{path} is no package: {line}"
            assert not extras or f'"{place}"' in line, f"shells need quotes: {line}"
            known = projects[root / path].get("optional-dependencies", {})
            assert set(filter(None, extras.split(","))) <= known.keys(), f"no such extra: {line}"
            chosen.add(root / path)
        missing = set().union(*map(siblings, chosen)) - chosen
        assert not missing, f"{line} needs {sorted(folder.name for folder in missing)} too"
        return places

    def read(readme: Path) -> list[list[str]]:
        blocks = [code for _, code in _BLOCK.findall(readme.read_text(encoding="utf-8"))]
        lines = "".join(blocks).replace("\\\n", " ").splitlines()
        return [check(line) for line in lines if "pip install" in line]

    return read
