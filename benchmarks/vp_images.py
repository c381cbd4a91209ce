"""What images are worth where content moves heads: the same model with frames and without.

    python benchmarks/vp_images.py [--quick] [--seeds 0 1 2 3 4] [--steps 150] [--json FILE]

For each seed of the synthetic generator one model learns with frames and one without, the same
recipe and steps, and both are tested on videos and users that neither saw. The model with frames is
also tested with the frames of another video, which must take its gain away. The vision model has
seeded random weights; nothing is downloaded but the backbone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from netllm import registry
from netllm.report.intervals import mean_of
from netllm.task.build_model import build_model
from netllm_baselines.vp import HoldLast


class Elsewhere:
    """A policy that is shown the frames of the next video instead of the one that is watched."""

    def __init__(self, policy: Any, videos: list[str]) -> None:
        self._policy = policy
        self._next = dict(zip(videos, [*videos[1:], videos[0]], strict=True))

    def reset(self, seed: int) -> None:
        """Begin anew."""
        self._policy.reset(seed)

    def act(self, observation: Mapping[str, np.ndarray]) -> Any:
        """The prediction for the right history and the wrong frames."""
        videos = np.array([self._next[video] for video in observation["video"]])
        return self._policy.act({**observation, "video": videos})


def errors(seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Mean error in degrees on the test part of one generated data set."""
    task: Any = registry.task("vp")
    place = task.setting("synthetic", seed=seed, train_stride=5)
    clips = place.clips("test")

    def error(policy: Any) -> float:
        return mean_of(task.rollout(policy, place, clips, seed=0).rows, "mae_deg", ci=False).mean

    found = {"hold-last": error(HoldLast(place))}
    for multimodal in (False, True):
        recipe = replace(
            task.recipe(args.backbone),
            steps=args.steps,
            validate_every=args.steps,
            batch=args.batch,
            micro_batch=args.batch,
            average=0.98,
            multimodal=multimodal,
            image_weights="random",
            seed=seed,
        )
        with tempfile.TemporaryDirectory() as folder:
            model = task.fit(
                build_model(task, place, args.backbone, recipe),
                task.experience(None, place, recipe),
                recipe=recipe,
                out=Path(folder) / "run",
                validate=lambda _: {},
                metric="",
                maximise=False,
                finish=None,
                resume=False,
            )
        policy = task.policy(model, place)
        found["images" if multimodal else "no images"] = error(policy)
    found["another video's images"] = error(
        Elsewhere(policy, sorted({clip.video for clip in clips}))
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few steps")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(range(5)))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.steps, args.batch = args.seeds[:1], 4, 16
    results: dict[int, dict[str, float]] = {}
    for seed in args.seeds:
        results[seed] = errors(seed, args)
        line = ", ".join(f"{name} {value:.2f}" for name, value in results[seed].items())
        print(f"seed {seed}: {line}", flush=True)
        if args.json:
            document = {"steps": args.steps, "mae_deg": results}
            args.json.write_text(json.dumps(document, indent=1) + "\n")
    gains = [1 - one["images"] / one["no images"] for one in results.values()]
    print(
        f"images lower the error by {np.mean(gains):.1%} on average over {len(gains)} seeds "
        f"({min(gains):.1%} to {max(gains):.1%})"
    )


if __name__ == "__main__":
    main()
