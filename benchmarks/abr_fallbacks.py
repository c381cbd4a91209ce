"""What it costs if a rule decides in place of a policy that is late, on validation sessions.

    python benchmarks/abr_fallbacks.py [--policy ppo] [--sessions 200]

Of the decisions of the policy a share, drawn at random, is a rule's instead: mean QoE. `hold` keeps
the last level. 1 is the rule alone.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from netllm import registry
from netllm.task import Policy

RULES = ("hold", "bba", "mpc", "steady")
SHARES = (0.01, 0.05, 0.2, 1.0)


class Hold:
    """Keeps the last level."""

    def reset(self, seed: int) -> None:
        """Do nothing."""

    def act(self, observation: Any) -> np.ndarray:
        """Level of the last chunk."""
        return observation["level"].copy()


class SometimesLate:
    """A policy in whose place a rule decides now and then."""

    def __init__(self, policy: Policy, rule: Policy, share: float) -> None:
        self._policy, self._rule, self._share = policy, rule, share

    def reset(self, seed: int) -> None:
        """Begin anew."""
        self._policy.reset(seed)
        self._rule.reset(seed)
        self._random = np.random.default_rng(seed)

    def act(self, observation: Any) -> np.ndarray:
        """The policy's levels, or the rule's."""
        answers, instead = self._policy.act(observation), self._rule.act(observation)
        return np.where(self._random.random(len(answers)) < self._share, instead, answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--policy", default="ppo")
    parser.add_argument("--sessions", type=int, default=200)
    args = parser.parse_args()
    task = registry.task("abr")
    place = task.setting("default")
    sessions = task.episodes(place, "valid", count=args.sessions)

    def built(name: str) -> Policy:
        return Hold() if name == "hold" else registry.policy("abr", name, place)

    def qoe(policy: Policy) -> float:
        rows = task.rollout(policy, place, sessions, seed=0).rows
        return float(np.mean([row["qoe"] for row in rows]))

    print(f"{args.policy} is never late: {qoe(built(args.policy)):.3f}")
    print("late in  " + "".join(f"{rule:>9}" for rule in RULES))
    for share in SHARES:
        found = [qoe(SometimesLate(built(args.policy), built(rule), share)) for rule in RULES]
        print(f"{share:7.0%}  " + "".join(f"{one:9.3f}" for one in found))


if __name__ == "__main__":
    main()
