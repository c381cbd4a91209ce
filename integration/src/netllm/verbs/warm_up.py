"""A throw-away episode before the clock runs: the first one compiles, loads and fills caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netllm import registry
from netllm.verbs.policy_spec import PolicySpec

# Policies that have run in this process, with the name of the setting.
_warm: set[tuple[PolicySpec, str]] = set()


def warm_up(contender: PolicySpec, setting: Any, episodes: Sequence[Any], *, seed: int) -> None:
    """Let a contender decide in one episode, once per process, so that none pays for the others.

    It is built anew for that: what a policy carries from episode to episode, and its random stream,
    are those of the one that is measured.

    Args:
        contender: who decides.
        setting: where.
        episodes: what is measured next; the first is played.
        seed: of the policy's random stream.
    """
    key = (contender, setting.name)
    if key in _warm:
        return
    policy = contender.build(setting)
    registry.task(contender.task).rollout(policy, setting, episodes[:1], seed=seed)
    _warm.add(key)
