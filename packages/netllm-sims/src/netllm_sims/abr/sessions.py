"""One episode: a trace and where in it playback begins."""

from dataclasses import dataclass
from math import isfinite

from netllm_sims.abr.traces import Trace
from netllm_sims.abr.video import Video

_LEAST_SCALE = 1e-4


@dataclass(frozen=True, eq=False)
class Session:
    """A video played once over a trace: the setting's, unless it has its own.

    Raises:
        ValueError: The start lies outside the trace's period, or the scale is below 0.0001.
    """

    id: str
    """Name, unique among the sessions that are run together."""
    trace: Trace
    """The bandwidth."""
    start_s: float = 0.0
    """Trace time at which the first chunk is requested."""
    scale: float = 1.0
    """Factor on the bandwidth."""
    tags: tuple[str, ...] = ()
    """Marks, e.g. `clean`: the trace's content occurs in no training file."""
    origins: frozenset[str] = frozenset()
    """Digests of the traces that an altered one was made from."""
    video: Video | None = None
    """What it plays instead of the setting's video, with the same ladder and chunks."""

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.trace.period_s:
            raise ValueError(
                f"`start_s` of session `{self.id}` must lie in [0, {self.trace.period_s:g}) s, "
                "the trace's period, "
                f"got {self.start_s}."
            )
        if not (isfinite(self.scale) and self.scale >= _LEAST_SCALE):
            raise ValueError(
                f"`scale` of session `{self.id}` must be finite and at least {_LEAST_SCALE}, "
                f"got {self.scale}."
            )

    @property
    def contents(self) -> frozenset[str]:
        """Digests of the traces that it shows: who learned from them knows the session."""
        return self.origins or frozenset({self.trace.digest})
