"""Freed memory stays with the process inside `kept_memory`, and no longer."""

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from netllm_adapt._memory import kept_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def fill():
    parts = [torch.ones(2**18) for _ in range(256)]  # 1 MiB each
    assert len(parts) == 256

fill()
before = resident()
with kept_memory():
    fill()
    inside = resident()
print(round(inside - before), round(resident() - before))
"""


def grown(**variables: str) -> tuple[int, int]:
    """MiB by which a process grew inside the context, and after it."""
    told = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=told | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    inside, after = done.stdout.split()
    return int(inside), int(after)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_freed_memory_stays_until_the_context_ends() -> None:
    inside, after = grown()
    assert inside > 200
    assert after < 50


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_an_allocator_that_the_environment_sets_up_is_left_alone() -> None:
    inside, _ = grown(MALLOC_TRIM_THRESHOLD_="1048576", MALLOC_MMAP_THRESHOLD_="33554432")
    assert inside < 50
