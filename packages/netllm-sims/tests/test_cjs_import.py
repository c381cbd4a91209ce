import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "statement",
    ["import netllm_sims.cjs", "import gymnasium, netllm_sims; gymnasium.spec('netllm/CJS-v0')"],
)
def test_importing_loads_neither_torch_nor_numba_nor_scipy(statement):
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert {"torch", "numba", "scipy"}.isdisjoint(done.stdout.split())
