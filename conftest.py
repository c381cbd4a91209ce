"""What holds for the tests of every package."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

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
