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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netllm.task import Draw, Metric, Outcome, Policy

if TYPE_CHECKING:
    from netllm_adapt import Episode, Examples, Predictor, Recipe
    from netllm_sims.vp import Clip, Setting
    from torch import nn

    from netllm.vp.windows import Sight, Windows

MAE = Metric("mae_deg", "MAE °", higher_is_better=False)
METRICS = (
    MAE,
    Metric("rmse_deg", "RMSE °", higher_is_better=False),
    Metric("great_circle_deg", "great circle °", higher_is_better=False),
    Metric("tile_hit_rate", "tiles hit"),
)

TRAIN_STRIDE = 1
"""Points between two windows to learn from; the published ones lie 15 apart."""

POINTS_PER_TOKEN, MOST_TOKENS = 2, 13


class VP:
    """Viewport prediction, as a `netllm.task.Task`."""

    name = "vp"
    metrics = METRICS
    rivals = ("hold-last", "velocity", "linear-regression", "gru", "gru-dense", "track")
    bounds: frozenset[str] = frozenset()
    published = frozenset({"track"})
    supervised = True
    validation = None
    chooses = False
    chunk = 64
    shard = 256
    trainers: Mapping[str, str] = {
        "gru": "netllm_baselines.vp.gru_training:train_gru",
        "track": "netllm_baselines.vp.track_training:train_track",
        "prompt": "netllm.vp.text.task:train_prompt",
        "token": "netllm.vp.text.task:train_token",
    }

    @property
    def draws(self) -> Mapping[str, Draw]:
        """The distribution of the error, its growth over the horizon, one prediction."""
        from netllm.report import plots
        from netllm.vp import plots as own

        return {
            "cdf.png": partial(plots.cdf, metric=MAE),
            "bars.png": partial(plots.bars, metric=MAE),
            "horizon.png": own.horizon,
            "example.png": own.example,
        }

    def settings(self) -> Mapping[str, str]:
        """The settings by name, with a line about each."""
        from netllm_sims.vp import settings

        return settings()

    def setting(self, name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
        """One setting, with any field overridden."""
        from netllm_sims.vp import setting

        # Other processes may work in another folder.
        folder = Path(data).resolve() if data is not None else None
        return setting(name, data=folder, **({"train_stride": TRAIN_STRIDE} | overrides))

    def seeds(self, setting: Setting) -> Sequence[int]:
        """One: windows are fixed, and no policy draws anything."""
        return (0,)

    def by_seed(self, setting: Setting, part: str, seeds: Sequence[int]) -> None:
        """None: seeds are of random streams."""

    def episodes(
        self, setting: Setting, part: str, *, count: int | None = None, seed: int = 0
    ) -> Sequence[Clip]:
        """User-video pairs of a part with their windows; a choice by the seed, if fewer."""
        return setting.clips(part, episodes=count, seed=seed)

    def subsets(self, setting: Setting, episodes: Sequence[Clip]) -> Mapping[str, frozenset[str]]:
        """None."""
        return {}

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

        done = rollout(policy, setting, episodes, seed=seed)
        rows = [
            _row(clip, predicted, setting)
            for clip, predicted in zip(episodes, done.predicted_deg, strict=True)
        ]
        rows[0]["example"] = _example(episodes[0], done.predicted_deg[0])
        return Outcome(rows, done.decisions, done.seconds)

    def record(self, *_: Any, **__: Any) -> Iterator[Episode]:
        """Nothing: the right answers are recorded already."""
        raise TypeError("vp is supervised: there is nothing to collect.")

    def experience(self, pool: Path | None, setting: Setting, recipe: Recipe) -> Windows:
        """All training windows, with features of the frames if the recipe is multimodal."""
        from netllm.vp.windows import Windows

        return Windows(
            setting.clips("train"),
            front_deg=setting.front_deg,
            rate_hz=setting.rate_hz,
            sight=_sight(setting, recipe),
        )

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """A token per two known viewports, one of the frame, and the one that asks."""
        from netllm_encoders import Viewport

        sight = _sight(setting, recipe)
        return Viewport(
            width=width,
            history=setting.history,
            group=max(POINTS_PER_TOKEN, -(-setting.history // MOST_TOKENS)),
            image=None if sight is None else sight.image,
        )

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """All viewports of the horizon at once, each a valid orientation."""
        from netllm_heads import Trajectory

        return Trajectory(width=width, horizon=setting.horizon, dropout=0.1)

    def assemble(self, recipe: Recipe, **parts: Any) -> Predictor:
        """A model that answers in one pass."""
        from netllm_adapt import Predictor

        from netllm.vp.windows import frame_settings, with_frames

        model = Predictor(**parts)
        frames = frame_settings(recipe)
        return model if frames is None else with_frames(model, frames)

    def policy(self, model: Predictor, setting: Setting) -> Policy:
        """The model, also beyond the horizon that it was trained for."""
        from netllm.vp.text.parts import Answer

        if isinstance(model.head, Answer):
            from netllm.vp.text.task import Token

            return Token().policy(model, setting)
        return Extended(model, setting)

    def recipe(self, backbone: str) -> Recipe:
        """The best recipe found, on SmolLM2-135M; another backbone keeps all its layers."""
        from netllm.vp.recipe import Recipe

        layers = 4 if backbone.endswith("smollm2-135m") else None
        return replace(
            Recipe(),
            layers=layers,
            steps=800,
            batch=128,
            micro_batch=128,
            average=0.998,
            validate_every=200,
        )

    def target_returns(self, experience: Examples) -> Sequence[float]:
        """None: nothing is asked for but the answer."""
        return ()

    def fit(self, model: Predictor, experience: Windows, **run: Any) -> Predictor:
        """Learn the recorded futures; see `netllm_adapt.training.loop.fit_supervised`.

        The last checkpoint is the one kept: the few validation videos change their minds about
        single checkpoints more than folds of the training videos do (`benchmarks/vp_folds.py`).
        """
        from netllm_adapt import fit_supervised

        del run["finish"]
        model.state |= {"front_deg": experience.front_deg, "rate_hz": experience.rate_hz}
        return fit_supervised(model, experience, **(run | {"metric": ""}))


class Extended:
    """A predictor as a policy of any setting.

    Of a longer history the model reads the last points that it knows; of a longer horizon it
    predicts the rest from its own predictions. A multimodal model sees the frame on display at the
    last known point. The world, frames too, is turned so that its front lies where it did in
    training.

    Raises:
        ValueError: if the setting has another rate or too short a history.
    """

    def __init__(self, model: Predictor, setting: Setting) -> None:
        from netllm_adapt import Forecast

        from netllm.vp.windows import Sight, frames_of

        check_rate(model, setting)
        check_history(model, setting)
        self._forecast = Forecast(model)
        self._horizon = setting.horizon
        self._turn_deg = model.state.get("front_deg", setting.front_deg) - setting.front_deg
        frames = frames_of(model)
        self._sight = Sight(setting, frames, turn_deg=self._turn_deg) if frames else None

    def reset(self, seed: int) -> None:
        """Nothing to begin."""

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The viewports that follow, (batch, horizon, 3), in degrees."""
        from netllm_sims.vp.geometry import turned

        image = {}
        if self._sight is not None:
            image["image"] = self._sight(observation["video"], observation["time_s"])
        answer = extended(
            turned(observation["viewport_deg"], self._turn_deg),
            self._horizon,
            lambda seen: self._forecast.act({"viewport_deg": seen, **image}),
        )
        return turned(answer, -self._turn_deg)


def check_rate(model: Predictor, setting: Setting) -> None:
    """Refuse a setting whose points lie closer or farther apart than a model has learned.

    Raises:
        ValueError: if the rates differ; a checkpoint that does not tell its own is taken as it is.
    """
    learned_hz = model.state.get("rate_hz", setting.rate_hz)
    if learned_hz != setting.rate_hz:
        raise ValueError(
            f"This model was adapted to {learned_hz:g} points per second, setting "
            f"{setting.name!r} has {setting.rate_hz:g}, so it would take every point for another "
            f"moment. Test it with --set rate_hz={learned_hz:g}, which resamples, or adapt one "
            f"with --set rate_hz={setting.rate_hz:g}."
        )


def check_history(model: Predictor, setting: Setting) -> None:
    """Refuse a setting that shows fewer points than a model reads.

    Raises:
        ValueError: with both numbers.
    """
    read = model.encoder.config().get("history", 0)
    if setting.history < read:
        raise ValueError(
            f"This model reads a history of {read} points, setting {setting.name!r} has "
            f"{setting.history}. Test it with --set history={read}, or adapt one with "
            f"--set history={setting.history}."
        )


def extended(
    seen_deg: np.ndarray, horizon: int, answer: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`horizon` viewports (batch, horizon, 3): those of `answer`, then those that follow these."""
    known = seen_deg.shape[1]
    while seen_deg.shape[1] < known + horizon:
        seen_deg = np.concatenate([seen_deg, answer(seen_deg)], axis=1)
    return seen_deg[:, known : known + horizon]


def _sight(setting: Setting, recipe: Recipe) -> Sight | None:
    """The frames of a multimodal recipe."""
    from netllm.vp.windows import Sight, frame_settings

    frames = frame_settings(recipe)
    return Sight(setting, frames) if frames else None


def _row(clip: Clip, predicted_deg: np.ndarray, setting: Setting) -> dict[str, Any]:
    from netllm_sims.vp import metrics

    by_step = metrics.mae_deg(predicted_deg, clip.future_deg, per_step=True)
    tiles = metrics.tile_hit_rate(predicted_deg, clip.future_deg, fov_deg=setting.fov_deg)
    return {
        "id": clip.id,
        "mae_deg": float(by_step.mean()),
        "rmse_deg": float(metrics.rmse_deg(predicted_deg, clip.future_deg).mean()),
        "great_circle_deg": float(metrics.great_circle_deg(predicted_deg, clip.future_deg).mean()),
        "tile_hit_rate": float(tiles.mean()),
        "weight": len(clip.future_deg),
        "mae_by_step_deg": [round(float(value), 4) for value in by_step.mean(axis=0)],
        "step_s": 1 / setting.rate_hz,
    }


def _example(clip: Clip, predicted_deg: np.ndarray) -> dict[str, Any]:
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
