"""What is reported of every user-video pair, and one prediction to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from netllm_sims.vp import Clip, Setting


def row(clip: Clip, predicted_deg: np.ndarray, setting: Setting) -> dict[str, Any]:
    """Errors of a pair, each the mean over its windows, whose number is its weight."""
    from netllm_sims.vp import metrics

    by_step = metrics.mae_deg(predicted_deg, clip.future_deg, per_step=True)
    tiles = metrics.tile_scores(predicted_deg, clip.future_deg, fov_deg=setting.fov_deg)
    return {
        "id": clip.id,
        "mae_deg": float(by_step.mean()),
        "rmse_deg": float(metrics.rmse_deg(predicted_deg, clip.future_deg).mean()),
        "great_circle_deg": float(metrics.great_circle_deg(predicted_deg, clip.future_deg).mean()),
        **{f"tile_{name}": float(score.mean()) for name, score in tiles._asdict().items()},
        "weight": len(clip.future_deg),
        "mae_by_step_deg": [round(float(value), 4) for value in by_step.mean(axis=0)],
        "step_s": 1 / setting.rate_hz,
    }


def example(clip: Clip, predicted_deg: np.ndarray) -> dict[str, Any]:
    """The window of a clip in which the head moves most, with what was predicted."""
    from netllm_sims.vp.metrics import wrap_deg

    moved = np.abs(wrap_deg(clip.future_deg - clip.history_deg[:, -1:])).mean(axis=(1, 2))
    window = int(moved.argmax())
    parts = {"history": clip.history_deg, "future": clip.future_deg, "predicted": predicted_deg}
    return {
        "video": clip.video,
        "time_s": float(clip.time_s[window]),
        **{f"{name}_deg": np.round(values[window], 2).tolist() for name, values in parts.items()},
    }
