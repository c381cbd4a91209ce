"""How episodes are dealt out to a policy: how many at once, and how it begins each batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def batch_size(policies: Sequence[Any], batch: int | None, count: int) -> int:
    """How many of `count` episodes run at once: `batch`, else all; one for sequential policies.

    Raises:
        ValueError: `batch` is below 1, or another than 1 for a sequential policy.
    """
    sequential = any(getattr(policy, "sequential", False) for policy in policies)
    if batch is not None and (batch < 1 or (sequential and batch != 1)):
        raise ValueError(
            f"`batch` must be >= 1, and 1 for a sequential policy, got {batch}. Leave it out."
        )
    return 1 if sequential else batch or count


def begin_batch(policies: Sequence[Any], running: Any, *, seed: int, number: int) -> None:
    """Reset the policies, sequential ones before the first batch only, and show them what runs.

    Args:
        policies: Each may have a method `begin`.
        running: What `begin` takes: the simulator, or the simulators, of the batch.
        seed: Of the first batch; those of later ones are derived from it.
        number: Of the batch, from 0.
    """
    for policy in policies:
        if number == 0 or not getattr(policy, "sequential", False):
            policy.reset(seed if number == 0 else _derived(seed, number))
        if hasattr(policy, "begin"):
            policy.begin(running)


def _derived(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
