"""Viewport prediction: head movement, settings, metrics, geometry, frames, an environment."""

from netllm_sims.vp import geometry, metrics
from netllm_sims.vp.clips import Clip, cut
from netllm_sims.vp.env import Env
from netllm_sims.vp.frames import Frames, open_frames
from netllm_sims.vp.geometry import unwrap_deg
from netllm_sims.vp.metrics import (
    great_circle_deg,
    mae_deg,
    rmse_deg,
    rmse_unwrapped_deg,
    tile_f_score,
    tile_hit_rate,
    tile_iou,
    wrap_deg,
)
from netllm_sims.vp.resampling import resample
from netllm_sims.vp.rollout import Policy, Predicted, rollout
from netllm_sims.vp.settings import Setting, setting, settings
from netllm_sims.vp.tile_streaming import Fetched, fetched_by_margin
from netllm_sims.vp.trajectories import Trajectory
from netllm_sims.vp.trajectory_loading import Gaps, load_trajectories

__all__ = [
    "Clip",
    "Env",
    "Fetched",
    "Frames",
    "Gaps",
    "Policy",
    "Predicted",
    "Setting",
    "Trajectory",
    "cut",
    "fetched_by_margin",
    "geometry",
    "great_circle_deg",
    "load_trajectories",
    "mae_deg",
    "metrics",
    "open_frames",
    "resample",
    "rmse_deg",
    "rmse_unwrapped_deg",
    "rollout",
    "setting",
    "settings",
    "tile_f_score",
    "tile_hit_rate",
    "tile_iou",
    "unwrap_deg",
    "wrap_deg",
]
