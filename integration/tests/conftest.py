import os
from pathlib import Path

import jaxtyping
import pytest

jaxtyping.install_import_hook("netllm.report.intervals", "beartype.beartype")

from netllm.cli import main  # noqa: E402

OWN = Path(__file__).parent / "own"


@pytest.fixture(autouse=True)
def _own_policies_and_no_data(monkeypatch):
    """Work where `own_policies.py` lies, on generated data."""
    monkeypatch.chdir(OWN)
    monkeypatch.delenv("NETLLM_DATA", raising=False)


REAL_DATA = os.environ.get("NETLLM_DATA")


@pytest.fixture
def real_data():
    if not REAL_DATA or not Path(REAL_DATA, "abr").is_dir():
        pytest.skip("needs the real data: set NETLLM_DATA to a folder laid out like it")
    return Path(REAL_DATA)


@pytest.fixture
def netllm(capsys):
    """Run one command of the program: exit code, standard output, standard error."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package where pip would: its modules, and what it registers; gives both folders."""

    def run(name, version, entry_points, modules):
        info = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = []
        for group, points in entry_points.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        folders = [str(info.parent), str(modules)]
        for folder in folders:
            monkeypatch.syspath_prepend(folder)
        return os.pathsep.join(folders)

    return run
