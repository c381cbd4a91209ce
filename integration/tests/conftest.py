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
