import jaxtyping
import pytest

jaxtyping.install_import_hook("netllm_encoders", "beartype.beartype")


@pytest.fixture
def unchecked_shapes():
    """Shapes are not checked by the test run, so that the code's own errors are reached."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
