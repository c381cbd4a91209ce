"""Episodes to store, and pools of them."""

from pathlib import Path
from typing import Any

import numpy as np
from netllm_adapt.pool import Episode, Pool, PoolWriter

OLD = Path(__file__).parents[1] / "data" / "pool_version_2"


def make_episode(number: int, steps: int = 5, policy: str = "ppo", **changes: Any) -> Episode:
    rng = np.random.default_rng(number)
    episode = {
        "id": f"trace-{number}",
        "policy": policy,
        "seed": number,
        "observations": {
            "buffer_s": rng.random(steps),
            "sizes_mb": rng.random((steps, 3, 2), np.float32),
            "level": rng.integers(0, 6, steps),
        },
        "actions": rng.integers(0, 6, steps),
        "rewards": rng.normal(size=steps),
        "labels": rng.random((steps, 6), np.float32),
        "meta": {"trace": f"norway/{number}.log", "scale": 1.5},
    }
    return Episode(**episode | changes)


def write_pool(path: Path, episodes: list[Episode], **options: Any) -> Pool:
    settings = {"task": "abr", "setting": "default", "provenance": {"command": "by hand"}}
    with PoolWriter(path, **settings | options) as writer:
        for episode in episodes:
            writer.add(episode)
    return Pool(path)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def assert_same(got: Episode, expected: Episode) -> None:
    assert (got.id, got.policy, got.seed) == (expected.id, expected.policy, expected.seed)
    assert got.meta == expected.meta
    assert list(got.observations) == list(expected.observations)
    pairs = [
        (got.actions, expected.actions),
        (got.rewards, expected.rewards),
        *((got.observations[name], expected.observations[name]) for name in expected.observations),
    ]
    if expected.labels is None:
        assert got.labels is None
    else:
        assert got.labels is not None
        pairs.append((got.labels, expected.labels))
    for one, other in pairs:
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def ended(number: int, **changes: Any) -> Episode:
    """An episode whose end is known."""
    rng = np.random.default_rng(100 + number)
    final = {"buffer_s": rng.random(), "sizes_mb": rng.random((3, 2), np.float32), "level": 3}
    about = {"final": final, "ended": "truncated", "reason": "too long"}
    return make_episode(number, **about | changes)
