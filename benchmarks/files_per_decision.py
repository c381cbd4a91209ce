"""How many of this repository's files run code while an adapted model decides.

    python benchmarks/files_per_decision.py [--task abr] [--checkpoint pretrained] [--json FILE]

Every call of `Policy.act` in one episode is traced: the first decision, which reads the weights,
and those that start a segment again are among them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import netllm
from netllm_adapt import Policy

PACKAGES = ("netllm", "netllm_adapt", "netllm_encoders", "netllm_heads", "netllm_sims")


class Traced:
    """Stands in for `Policy.act`, and notes which files each call passes through."""

    def __init__(self) -> None:
        self.act = Policy.act
        self.decisions: list[list[str]] = []

    def __call__(self, policy: Policy, observation: Any) -> Any:
        codes: set[CodeType] = set()

        def note(frame: FrameType, event: str, argument: Any) -> None:
            codes.add(frame.f_code)

        sys.setprofile(note)
        try:
            return self.act(policy, observation)
        finally:
            sys.setprofile(None)
            self.decisions.append(sorted({*map(_ours, codes)} - {""}))


def _ours(code: CodeType) -> str:
    """A source file's path from its package on; empty if it is another's."""
    parts = Path(code.co_filename).parts
    found = [number for number, part in enumerate(parts) if part in PACKAGES]
    return "/".join(parts[found[-1] :]) if found and "site-packages" not in parts else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="abr", help="one whose model decides step after step")
    parser.add_argument("--checkpoint", default="pretrained")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    traced = Traced()
    Policy.act = lambda policy, observation: traced(policy, observation)
    netllm.test(args.task, checkpoint=args.checkpoint, rivals="bba", episodes=1, device="cpu")
    often = sorted(traced.decisions, key=len)[len(traced.decisions) // 2]
    ever = sorted({file for decision in traced.decisions for file in decision})
    for file in ever:
        print(f"{'' if file in often else '(now and then) '}{file}")
    print(f"{len(often)} files in a decision, {len(ever)} in {len(traced.decisions)} decisions")
    if args.json:
        args.json.write_text(json.dumps({"decision": often, "episode": ever}, indent=2) + "\n")


if __name__ == "__main__":
    main()
