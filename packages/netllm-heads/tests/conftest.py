import sys
from types import ModuleType

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype

# As PEP 484 has it an int passes for a float, which beartype grants on demand only.
checker = ModuleType("netllm_heads_checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[checker.__name__] = checker
jaxtyping.install_import_hook("netllm_heads", "netllm_heads_checker.check")


@pytest.fixture
def unchecked_shapes():
    """Shapes are not checked by the test run, so that the code's own errors are reached."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
