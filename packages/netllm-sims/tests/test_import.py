import subprocess
import sys

import pytest


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["netllm_sims", "netllm_sims.abr", "netllm_sims.cc", "netllm_sims.flows"]
)
def test_importing_loads_neither_torch_nor_numba_nor_scipy(module):
    modules = loaded_by(f"import {module}")
    assert module in modules
    assert modules.isdisjoint({"torch", "numba", "scipy"})


def test_importing_the_package_alone_makes_the_environment_known():
    statement = "import gymnasium, netllm_sims; gymnasium.spec('netllm/ABR-v0')"
    assert "netllm_sims.abr" not in loaded_by(statement)
