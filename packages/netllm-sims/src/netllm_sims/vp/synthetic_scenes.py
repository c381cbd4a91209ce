"""Seeded scenes: points of interest that move over the sphere, and pictures of them."""

from colorsys import hsv_to_rgb
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from netllm_sims.vp.geometry import wrap_deg

DURATION_S = 60.0
_FADE_S = 8.0
_HEIGHT, _WIDTH = 64, 128


@dataclass(frozen=True, eq=False)
class Scene:
    """Points of interest (POI) of one video; those of time t are seen in its frame of time t.

    A POI appears at a random place and time, drifts in yaw and swings in pitch, and fades: its
    salience is s·exp(-age / 8 s), so a new one mostly outshines the others, but not if it is faint.
    """

    birth_s: Float[ndarray, "poi"]
    """When it appears."""
    death_s: Float[ndarray, "poi"]
    """When it is gone."""
    salience: Float[ndarray, "poi"]
    """At birth, at most 1."""
    yaw_deg: Float[ndarray, "poi"]
    """At birth."""
    drift_deg_s: Float[ndarray, "poi"]
    """Of the yaw."""
    pitch_deg: Float[ndarray, "poi"]
    """Around which it swings."""
    swing_deg: Float[ndarray, "poi"]
    """How far."""
    period_s: Float[ndarray, "poi"]
    """Of the swing."""
    colour: Float[ndarray, "poi 3"]
    """Red, green, blue, at most 1."""
    background: UInt8[ndarray, "height width 3"]
    """What the frames show behind."""

    def where(self, time_s: float | Float[ndarray, "*time"]) -> Float[ndarray, "*time poi 2"]:
        """Yaw and pitch of every POI, also of those not there."""
        age = np.asarray(time_s)[..., None] - self.birth_s
        pitch = self.pitch_deg + self.swing_deg * np.sin(2 * np.pi * age / self.period_s)
        return np.stack([wrap_deg(self.yaw_deg + self.drift_deg_s * age), pitch], axis=-1)

    def salience_at(self, time_s: float | Float[ndarray, "*time"]) -> Float[ndarray, "*time poi"]:
        """Salience of every POI; 0 of those not there."""
        now = np.asarray(time_s)[..., None]
        age = now - self.birth_s
        there = (age >= 0) & (now < self.death_s)
        return np.where(there, self.salience * np.exp(-np.maximum(age, 0) / _FADE_S), 0.0)

    def draw(self, time_s: float) -> UInt8[ndarray, "height width 3"]:
        """Equirectangular frame: bright discs, the larger and brighter the more salient.

        Radius 5° + 9°·salience, brightness 0.4 + 0.6·salience, an edge of 3°; the brightest is on
        top.
        """
        frame = self.background.astype(np.float64)
        salience, where = self.salience_at(time_s), np.deg2rad(self.where(time_s))
        yaw, pitch = _pixels()
        for poi in np.argsort(salience):
            if salience[poi] == 0:
                continue
            cosine = np.sin(pitch) * np.sin(where[poi, 1]) + np.cos(pitch) * np.cos(
                where[poi, 1]
            ) * np.cos(yaw - where[poi, 0])
            distance = np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))
            cover = np.clip((5 + 9 * salience[poi] - distance) / 3 + 0.5, 0, 1)[..., None]
            bright = 255 * (0.4 + 0.6 * salience[poi]) * self.colour[poi]
            frame = frame * (1 - cover) + bright * cover
        return np.round(frame).astype(np.uint8)


def make_scene(rng: np.random.Generator) -> Scene:
    """A random scene of a minute: three POIs at its start, then one more every 3 to 7 s."""
    births = [0.0, 0.0, 0.0]
    while births[-1] < DURATION_S:
        births.append(births[-1] + rng.uniform(3.0, 7.0))
    birth_s, count = np.array(births), len(births)
    hues = rng.uniform(0, 1, count)
    return Scene(
        birth_s=birth_s,
        death_s=birth_s + rng.uniform(10, 18, count),
        salience=rng.uniform(0.45, 1.0, count),
        yaw_deg=rng.uniform(-180, 180, count),
        drift_deg_s=rng.uniform(-6, 6, count),
        pitch_deg=rng.uniform(-30, 30, count),
        swing_deg=rng.uniform(0, 10, count),
        period_s=rng.uniform(6, 15, count),
        colour=np.array([hsv_to_rgb(hue, 0.35, 1.0) for hue in hues]),
        background=_texture(rng),
    )


def _texture(rng: np.random.Generator) -> UInt8[ndarray, "height width 3"]:
    """A dim picture of some waves, without a seam at yaw 180°."""
    yaw, pitch = _pixels()
    waves = np.zeros(yaw.shape)
    for _ in range(6):
        across, down = rng.integers(0, 7), rng.uniform(-7, 7)
        waves += np.sin(across * yaw + down * pitch + rng.uniform(0, 2 * np.pi))
    tint = np.array(hsv_to_rgb(rng.uniform(0, 1), 0.5, 1.0))
    level = 45 + 7 * waves
    return np.clip(level[..., None] * tint, 0, 90).astype(np.uint8)


@cache
def _pixels() -> tuple[Float[ndarray, "height width"], Float[ndarray, "height width"]]:
    """Yaw and pitch of the centres of all pixels, in radians."""
    yaw = (np.arange(_WIDTH) + 0.5) * 2 * np.pi / _WIDTH - np.pi
    pitch = np.pi / 2 - (np.arange(_HEIGHT) + 0.5) * np.pi / _HEIGHT
    right, up = np.meshgrid(yaw, pitch)
    return right, up
