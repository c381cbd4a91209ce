"""Randomised worlds to learn from: other bandwidths and other videos than the recorded ones."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from netllm_sims.abr.sessions import Session
from netllm_sims.abr.synthetic import Range, markov_trace
from netllm_sims.abr.trace_augmentation import SCALES, alter, alter_some
from netllm_sims.abr.video import Video
from netllm_sims.setting_values import unknown

NAMES = {
    "near": f"traces stretched, disturbed and spliced; bandwidth times {SCALES[0]} to {SCALES[1]}",
    "wide": "the ranges of `Worlds`: other chunk sizes too, and generated links",
}
"""Names of the ways to randomise sessions, each with one line on what it does."""


@dataclass(frozen=True, kw_only=True)
class Worlds:
    """Ranges that a randomised session is drawn from, `wide` by default.

    The setting's video keeps its ladder and the mean sizes of its levels; the sizes of its chunks
    are drawn anew. Traces and video of the tests play no part.

    Raises:
        ValueError: A range that is out of order or not positive, a share outside [0, 1], or a
            spread below 0.
    """

    size: Range = (0.7, 1.4)
    """Factor on the sizes of all chunks; log-uniform, as the bandwidth's."""
    scene: float = 0.2
    """Largest sigma of the log-normal factor that the levels of a chunk share."""
    own: float = 0.1
    """Largest sigma of each size's own factor."""
    bandwidth: Range = (0.3, 4.0)
    """Factor on the bandwidth."""
    markov: float = 0.3
    """Share of the sessions on generated traces (`markov_trace`) instead of recorded ones."""
    stretch: float = 0.5
    """Time runs up to e to this power faster or slower."""
    noise: float = 0.9
    """Largest sigma of log-normal noise on the bandwidth."""
    noise_points: int = 10
    """Longest run of points that share their noise."""
    splice: float = 0.3
    """Share of the sessions that go over into another trace."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("size", "bandwidth"):
                holds, rule = 1e-3 <= value[0] <= value[1] <= 1e3, "rise, within [0.001, 1000]"
            elif field.name in ("markov", "splice"):
                holds, rule = 0 <= value <= 1, "lie in [0, 1]"
            elif field.name == "noise_points":
                holds, rule = value >= 1, "be at least 1"
            else:
                holds, rule = 0 <= value <= 3, "lie in [0, 3]"
            if not holds:
                raise ValueError(f"`{field.name}` must {rule}, got {value}.")

    def session(
        self, plain: Session, others: Sequence[Session], video: Video, rng: np.random.Generator
    ) -> Session:
        """The session in a world of its own.

        Args:
            plain: The session to begin from.
            others: Sessions whose traces may follow its trace.
            video: The setting's.
            rng: Randomness.
        """
        scale = plain.scale * _log_uniform(self.bandwidth, rng)
        if rng.random() < self.markov:
            trace = markov_trace(rng, id=f"markov of {plain.trace.id}")
            start_s = float(rng.uniform(0.0, trace.period_s))
            plain = Session(plain.id, trace, start_s, tags=plain.tags)
        altered = alter(
            plain,
            others,
            rng,
            stretch=self.stretch,
            noise=self.noise,
            noise_points=self.noise_points,
            splice_share=self.splice,
        )
        return replace(altered, scale=scale, video=self.video(video, rng))

    def video(self, usual: Video, rng: np.random.Generator) -> Video:
        """A video with the ladder of another, and sizes drawn around the means of its levels."""
        scene, own = rng.uniform(0, self.scene), rng.uniform(0, self.own)
        rows, levels = usual.sizes_bytes.shape
        spread = rng.normal(0, scene, (rows, 1)) + rng.normal(0, own, (rows, levels))
        factor = _log_uniform(self.size, rng) * np.exp(spread)
        sizes = np.clip(np.round(usual.sizes_bytes.mean(axis=0) * factor), 1, 1e9)
        return replace(usual, name="randomised", sizes_bytes=sizes, folder=None)


def randomise(
    sessions: Sequence[Session],
    others: Sequence[Session],
    video: Video,
    rng: np.random.Generator,
    *,
    share: float,
    worlds: str | Worlds,
) -> list[Session]:
    """The sessions, a share of them in worlds of their own; a share of 0 draws nothing from `rng`.

    Args:
        sessions: What to randomise.
        others: Sessions whose traces may follow.
        video: The setting's.
        rng: Randomness.
        share: Share of the sessions that are randomised; in `near`, of those whose trace is altered
            and, apart from that, of those whose bandwidth is scaled.
        worlds: A name of `NAMES`, or ranges.

    Raises:
        ValueError: There is no such name.
    """
    if isinstance(worlds, str) and worlds not in NAMES:
        raise ValueError(unknown("value of `worlds`", worlds, list(NAMES)))
    if worlds == "near" or share == 0:
        return alter_some(sessions, others, rng, share=share)
    ranges = worlds if isinstance(worlds, Worlds) else Worlds()
    return [
        ranges.session(session, others, video, rng) if rng.random() < share else session
        for session in sessions
    ]


def _log_uniform(limits: Range, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))
