"""Seeded users who watch seeded scenes: head movement that follows what is to be seen."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.vp.frames import Frames
from netllm_sims.vp.geometry import from_yaw_pitch, wrap_deg
from netllm_sims.vp.synthetic_scenes import DURATION_S, Scene, make_scene
from netllm_sims.vp.trajectories import Trajectory

_VIDEOS = {"train": range(48), "valid": range(48, 54), "test": range(54, 64)}
_USERS = {"train": range(8), "valid": range(8, 12), "test": range(12, 18)}
_STEP_S = 0.1


def trajectories(
    seed: int, part: str, *, rate_hz: float = 5.0, viewers: str | None = None
) -> list[Trajectory]:
    """Trajectories of a minute of the users and videos of `part`, of which no other part has any.

    48, 6 and 10 videos, 8, 4 and 6 users; every user of a part watches every video of it. The
    videos are many, since what a picture tells can be learned from many pictures only.

    Args:
        seed: Of everything.
        part: `train`, `valid` or `test`.
        rate_hz: Points per second.
        viewers: The part whose users watch instead.
    """
    times_s = np.arange(round(DURATION_S * rate_hz)) / rate_hz
    users = list(_USERS[viewers or part])
    made = []
    for video in _VIDEOS[part]:
        yaw_pitch = watch(scene_of(seed, video), seed=seed, video=video, users=users)
        steps_s = np.arange(len(yaw_pitch)) * _STEP_S
        for user, path in zip(users, np.moveaxis(yaw_pitch, 1, 0), strict=True):
            at = np.stack([np.interp(times_s, steps_s, axis) for axis in path.T], axis=-1)
            name = f"synthetic/video{video + 1}", f"user{user + 1}"
            # six decimals, as published: the last bits may depend on the machine
            viewports_deg = wrap_deg(np.round(from_yaw_pitch(at), 6))
            made.append(Trajectory(*name, times_s, viewports_deg))
    return made


def frames_of(seed: int, video: str, *, rate_hz: float = 5.0) -> Frames:
    """Frames of a synthetic video, drawn when asked for."""
    scene = scene_of(seed, int(video.removeprefix("synthetic/video")) - 1)
    count = round(DURATION_S * rate_hz)
    return Frames(rate_hz, count, lambda index: scene.draw(index / rate_hz), video)


@lru_cache(maxsize=256)
def scene_of(seed: int, video: int) -> Scene:
    """The scene of a synthetic video, by number from 0."""
    return make_scene(np.random.default_rng([seed, 0, video]))


def watch(
    scene: Scene, *, seed: int, video: int, users: list[int]
) -> Float[ndarray, "step user 2"]:
    """Unwrapped yaw and pitch in degrees of the users' heads, every 0.1 s.

    A user notices a point of interest (POI) 0.9 to 1.5 s after it appears, and attends the most
    salient of those noticed: new ones, mostly, since salience fades. Tastes differ by some 10 %,
    and the attended one counts 15 % more. The head turns towards it by the shortest way, at most at
    the user's top speed of 90 to 160 °/s (a saccade), and then follows it (smooth pursuit) with a
    lag of 0.2 to 0.4 s, beside its centre by some 3° and trembling by 1°.
    """
    traits = np.array([np.random.default_rng([seed, 1, user]).uniform(0, 1, 3) for user in users])
    reaction_s, lag_s, top = np.array([[0.9], [0.2], [90.0]]) + traits.T * [[0.6], [0.2], [70.0]]
    own = [np.random.default_rng([seed, 2, video, user]) for user in users]
    taste = np.stack([np.exp(rng.normal(0, 0.1, len(scene.birth_s))) for rng in own])
    beside = np.stack([rng.normal(0, 3, 2) for rng in own])
    steps = round(DURATION_S / _STEP_S) + 1
    tremble = _tremble(np.stack([rng.normal(size=(steps, 2)) for rng in own], axis=1))
    times_s = np.arange(steps) * _STEP_S
    where, salience = scene.where(times_s), scene.salience_at(times_s)
    # the first POIs are known from the start
    known_s = np.where(scene.birth_s == 0, 0.0, scene.birth_s + reaction_s[:, None])
    scores = taste * salience[:, None] * (known_s <= times_s[:, None, None])
    everyone = np.arange(len(users))
    attended = np.argmax(scores[0], axis=1)
    head = where[0, attended] + beside
    keep = 1 - np.exp(-_STEP_S / lag_s)
    path = np.empty((steps, len(users), 2))
    for step, score in enumerate(scores):
        score[everyone, attended] *= 1.15
        attended = np.where(score.max(axis=1) > 0, np.argmax(score, axis=1), attended)
        aim = where[step, attended] + beside - head
        aim[:, 0] = (aim[:, 0] + 180) % 360 - 180
        distance = np.hypot(*aim.T)
        turn = np.minimum(distance * keep, top * _STEP_S)
        head = head + aim * (turn / np.maximum(distance, 1e-9))[:, None]
        path[step] = head
    path += tremble
    path[..., 1] = np.clip(path[..., 1], -85, 85)
    return path


def _tremble(noise: Float[ndarray, "step user 2"]) -> Float[ndarray, "step user 2"]:
    """Noise of 1° that forgets itself within half a second."""
    keep = np.exp(-_STEP_S / 0.5)
    smooth = noise.copy()
    for step in range(1, len(noise)):
        smooth[step] = keep * smooth[step - 1] + np.sqrt(1 - keep**2) * noise[step]
    return smooth
