"""Viewport prediction: say where a head will turn, so that only that part of a video is sent.

A viewer of 360° video turns the head; its last seconds are known, the next ones are wanted, point
by point: roll, pitch and yaw in degrees. The error is the mean of the wrapped differences over the
horizon and the three angles (MAE, in degrees).

This module is the whole task on one page: head movement and metrics (`netllm_sims.vp`), what the
model sees (`VP.encoder`), how it answers (`VP.head`: the whole horizon in one pass), the rivals
(`netllm_baselines.vp`) and the recipe. There is no pool: the model learns from recorded movement.

Source: NetLLM (Wu et al., SIGCOMM 2024), sections 4 and A.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm_adapt.training.recipe import Recipe

from netllm.task import Metric, ObservationField, Outcome, Policy, SupervisedTask
from netllm.vp.state import State

if TYPE_CHECKING:
    from netllm_adapt import Predictor
    from netllm_sims.vp import Clip, Setting
    from torch import nn

    from netllm.vp.windows import Sight, Windows

TRAIN_STRIDE = 1
"""Points between two windows to learn from; the published ones lie 15 apart."""

POINTS_PER_TOKEN, MOST_TOKENS = 2, 13


@dataclass(frozen=True)
class ImageRecipe(Recipe):
    """How a model of viewport prediction is adapted: the fields of every recipe, and images."""

    multimodal: bool = False
    """See images too."""
    image_model: str = "vit_tiny_patch16_224"
    """timm's name of the frozen vision model."""
    image_weights: str = ""
    """Its weights: a safetensors file, `random` (by the seed), or empty for timm's own."""


class VP(SupervisedTask):
    """Viewport prediction.

    The last checkpoint is the one kept: the few validation videos change their minds about single
    checkpoints more than folds of the training videos do (`benchmarks/vp_folds.py`).
    """

    name = "vp"
    metrics = (
        Metric("mae_deg", "MAE °", higher_is_better=False),
        Metric("rmse_deg", "RMSE °", higher_is_better=False),
        Metric("great_circle_deg", "great circle °", higher_is_better=False),
        Metric("tile_hit_rate", "tiles hit", share=True),
        Metric("tile_f_score", "tile F-score", share=True),
        Metric("tile_iou", "tile IoU", share=True),
    )
    rivals = (
        "hold-last",
        "velocity",
        "linear-regression",
        "crowd-median",
        "gru",
        "gru-dense",
        "gru-side",
        "track",
        "vpt360",
    )
    fallback = "hold-last"
    published = frozenset({"track"})
    trainers: Mapping[str, str] = {
        "gru": "netllm_baselines.vp.gru_training:train_gru",
        "gru-side": "netllm_baselines.vp.gru_side_training:train_gru_side",
        "track": "netllm_baselines.vp.track_training:train_track",
        "vpt360": "netllm_baselines.vp.vpt360_training:train_vpt360",
        "prompt": "netllm.vp.text_task:train_prompt",
        "token": "netllm.vp.text_task:train_token",
    }
    plots: Mapping[str, str] = {
        "horizon.png": "netllm.vp.plots:horizon",
        "example.png": "netllm.vp.plots:example",
    }
    columns: Mapping[str, Sequence[str]] = dict.fromkeys(
        ("viewport_deg", "memory_deg", "crowd_deg"), ("roll", "pitch", "yaw")
    )
    neutral = "netllm.vp.standing_still:standing_still"
    student = "netllm.vp.student_training:Training"
    simulator = "netllm_sims.vp"
    chooses = False
    State = State
    layers: int | None = 4
    training: Mapping[str, Any] = {
        "steps": 800,
        "batch": 128,
        "micro_batch": 128,
        "average": 0.998,
        "validate_every": 200,
    }

    def setting(self, name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
        """One setting, whose windows to learn from begin at every point unless told otherwise."""
        return super().setting(name, data=data, **({"train_stride": TRAIN_STRIDE} | overrides))

    def rivals_of(self, setting: Setting) -> Sequence[str]:
        """Rivals that read a crowd or a memory only where the setting shows one."""
        useless = set() if setting.crowd else {"crowd-median"}
        useless |= set() if setting.crowd or setting.memory else {"gru-side"}
        return [name for name in self.rivals if name not in useless]

    def shipped(self, setting: Setting) -> str:
        """Another checkpoint where a crowd or a memory is shown."""
        return "vp-side" if setting.crowd or setting.memory else "vp"

    def episodes(
        self, setting: Setting, part: str, *, count: int | None = None, seed: int = 0
    ) -> Sequence[Clip]:
        """User-video pairs of a part with their windows; a choice by the seed, if fewer."""
        return setting.clips(part, episodes=count, seed=seed)

    def clusters(
        self, setting: Setting, episodes: Sequence[Clip]
    ) -> Mapping[str, Mapping[str, str]]:
        """The viewer and the video of each pair: both are drawn, and they cross each other.

        What a video shows moves all of its viewers alike, and a viewer's habits show in all videos.
        Resampling pairs, or viewers alone, would take the few test videos for all there are: where
        viewers and videos differ by half as much as pairs do, and no model is better, a third and
        a fifth of the verdicts on 6 videos and 21 viewers would be false (`test_coverage.py`
        simulates it). So a setting with two videos has no verdict at all.
        """
        return {
            clip.id: {"viewer": f"{clip.video.rpartition('/')[0]}/{clip.user}", "video": clip.video}
            for clip in episodes
        }

    def rollout(
        self, policy: Policy, setting: Setting, episodes: Sequence[Clip], *, seed: int
    ) -> Outcome:
        """Errors of every user-video pair, each the mean over its windows, which are its weight."""
        from netllm_sims.vp import rollout

        from netllm.vp.episode_metrics import example, row

        done = rollout(policy, setting, episodes, seed=seed)
        pairs = zip(episodes, done.predicted_deg, strict=True)
        rows = [row(clip, predicted, setting) for clip, predicted in pairs]
        rows[0]["example"] = example(episodes[0], done.predicted_deg[0])
        return Outcome(rows, done.decisions, done.seconds)

    def observation_fields(self, setting: Setting) -> Mapping[str, ObservationField]:
        """What `netllm_sims.vp.rollout` shows: the viewer's own points, and side information."""
        from netllm.vp.observation_fields import observation_fields

        return observation_fields(setting)

    def experience(self, pool: Path | None, setting: Setting, recipe: Recipe) -> Windows:
        """All training windows, with features of the frames if the recipe is multimodal."""
        from netllm.vp.windows import Windows

        return Windows(
            setting.clips("train"),
            front_deg=setting.front_deg,
            rate_hz=setting.rate_hz,
            sight=_sight(setting, recipe),
            seed=recipe.seed,
        )

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """A token per two known viewports, one of the frame, and the one that asks.

        Of a setting with a memory or a crowd also tokens of the past and of viewers most alike.
        """
        from netllm_encoders import Viewport
        from netllm_sims.vp.side_fields import VIEWERS

        sight = _sight(setting, recipe)
        return Viewport(
            width=width,
            history=setting.history,
            group=max(POINTS_PER_TOKEN, -(-setting.history // MOST_TOKENS)),
            image=None if sight is None else sight.image,
            memory=setting.memory,
            crowd={"viewers": VIEWERS, "horizon": setting.horizon} if setting.crowd else None,
        )

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """All viewports of the horizon at once, each a valid orientation."""
        from netllm_heads import Trajectory
        from netllm_sims.vp.side_fields import VIEWERS

        viewers = VIEWERS if setting.crowd else 0
        return Trajectory(width=width, horizon=setting.horizon, dropout=0.1, viewers=viewers)

    def assemble(self, recipe: Recipe, **parts: Any) -> Predictor:
        """A model that answers in one pass."""
        from netllm.vp.windows import with_frames

        model = super().assemble(recipe, **parts)
        frames = _frame_settings(recipe)
        return model if frames is None else with_frames(model, frames)

    def policy(self, model: Predictor, setting: Setting) -> Policy:
        """The model, also beyond the horizon that it was trained for."""
        from netllm.vp.policy import Extended
        from netllm.vp.text.written_viewports import Answer

        if isinstance(model.head, Answer):
            from netllm.vp.text.policy import TextPolicy

            return TextPolicy.of(model, setting)
        return Extended(model, setting)

    def usual_recipe(self) -> Recipe:
        """That of every task, and images."""
        return ImageRecipe()

    def fit(self, model: Predictor, experience: Windows, **run: Any) -> Predictor:
        """Learn the recorded futures; see `netllm_adapt.fit`."""
        model.state |= {
            "front_deg": float(experience.front_deg),
            "rate_hz": float(experience.rate_hz),
        }
        return super().fit(model, experience, **run)


def _sight(setting: Setting, recipe: Recipe) -> Sight | None:
    """The frames of a multimodal recipe."""
    from netllm.vp.windows import Sight

    frames = _frame_settings(recipe)
    return Sight(setting, frames) if frames else None


def _frame_settings(recipe: Recipe) -> dict[str, Any] | None:
    """The settings of the vision model that a recipe asks for; None without images."""
    if not (isinstance(recipe, ImageRecipe) and recipe.multimodal):
        return None
    return {
        "model": recipe.image_model,
        "weights": recipe.image_weights or None,
        "seed": recipe.seed,
        "image_size": (64, 128),
        "grid": (4, 8),
    }
