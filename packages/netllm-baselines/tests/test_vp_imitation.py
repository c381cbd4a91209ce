"""A network of viewports that imitates."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the GRU needs the extra `learned`")

from netllm_baselines.vp.imitation import Imitator  # noqa: E402
from netllm_sims.vp import wrap_deg  # noqa: E402


def turning(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Heads that turn evenly, across the border at 180 degrees too, and what follows."""
    dice = np.random.default_rng(seed)
    start, speed = dice.uniform(-180, 180, (count, 1, 3)), dice.uniform(-3, 3, (count, 1, 3))
    points = start * [0.1, 0.2, 1] + speed * np.arange(15)[None, :, None]
    return wrap_deg(points[:, :10]), wrap_deg(points[:, 10:])


def test_it_learns_what_is_predicted_and_goes_on_from_its_weights() -> None:
    history, predicted = turning(1500, seed=0)
    still = abs(wrap_deg(predicted - history[:, -1:])).mean()
    first = Imitator(seed=0)
    error = first.learn(history, predicted, rate_hz=5.0, epochs=4)
    assert error < 0.8 * still
    assert first.weights is not None
    assert first.weights.meta == {"history": 10, "horizon": 5, "hidden": 256, "rate_hz": 5.0}
    then = Imitator(seed=1, begun=first.weights)
    assert then.learn(history, predicted, rate_hz=5.0, epochs=1) < error
