"""Named settings: from which links the episodes are drawn."""

from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar

from netllm_sims import own_data
from netllm_sims.abr import train_valid_test as streaming
from netllm_sims.cc import train_valid_test
from netllm_sims.cc.capacity import KINDS
from netllm_sims.cc.links import Link
from netllm_sims.cc.train_valid_test import COUNTS, PARTS, RECORDED
from netllm_sims.data_sources import Source, generated, of_files
from netllm_sims.setting_values import (
    check_names,
    data_root,
    existing,
    items,
    natural,
    number,
    unknown,
    word,
    yes_or_no,
)

_DESCRIPTIONS = {
    "default": "one flow; steady, stepping, Markov-modulated and recorded broadband capacity",
    "unseen-range": "bandwidth, delay and buffer outside the ranges of default, by up to 4 times",
    "satellite": "long round trips, fading capacity, small buffers, losses by chance",
    "cellular": "capacity that moves within milliseconds, deep buffers; recorded and generated",
    "two-flows": "the links of default, on which a CUBIC flow begins in the first quarter",
    "synthetic": "short episodes on generated links; needs no data",
}
_ORDERED = (
    ("least_mbps", "most_mbps"),
    ("least_rtt_ms", "most_rtt_ms"),
    ("least_buffer", "most_buffer"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """One configuration of the task; build it with `setting(name, …)`.

    Every link draws bandwidth, round-trip time and buffer, each uniform in its logarithm.

    Raises:
        ValueError: A number outside its range.
    """

    fixed_fields: ClassVar[frozenset[str]] = frozenset({"name", "data", "synthetic"})
    """Fields that cannot be overridden."""

    name: str
    """Name of the setting that it began as."""
    data: Path | None = None
    """Folder of the real data, if it was used."""
    synthetic: bool = False
    """Whether seeded generators stand in for recorded traces."""
    intervals: int = 300
    """Monitoring intervals of an episode, each half a round trip without queue."""
    least_mbps: float = 4.0
    """Lowest mean capacity of a link."""
    most_mbps: float = 40.0
    """Highest mean capacity of a link."""
    least_rtt_ms: float = 20.0
    """Shortest round trip without queue."""
    most_rtt_ms: float = 120.0
    """Longest round trip without queue."""
    least_buffer: float = 0.5
    """Smallest buffer, in bandwidth-delay products (BDP)."""
    most_buffer: float = 4.0
    """Largest buffer, in bandwidth-delay products."""
    beyond: float = 1.0
    """Above 1: the three are drawn outside these ranges, by up to this factor below or above."""
    lossy: float = 0.25
    """Share of the links that lose packets by chance."""
    most_loss: float = 0.01
    """Highest probability of such a loss."""
    competitors: int = 0
    """Further flows, CUBIC senders, that begin in the first quarter of the episode."""
    kinds: tuple[str, ...] = ("steady", "steps", "markov")
    """How the capacity changes, each as often: `steady`, `steps`, `markov`, `cellular` or
    `satellite`; recorded `broadband` or `mobile` traces, scaled to the drawn bandwidth."""
    traces: Path | None = None
    """Own folder of traces, which are taken as they are: flat, or with subfolders `train`, `valid`,
    `test`."""
    split: bool = True
    """Whether a flat folder of own traces is divided into training, validation and test by content;
    else every part has all of them."""

    def __post_init__(self) -> None:
        for low, high in _ORDERED:
            if not 0 < getattr(self, low) <= getattr(self, high) < inf:
                raise ValueError(
                    f"`{low}` must be > 0 and at most `{high}`, a finite number, got "
                    f"{getattr(self, low)} and {getattr(self, high)}."
                )
        for name, least, most in (
            ("intervals", 4, 100_000),
            ("beyond", 1.0, 100.0),
            ("lossy", 0.0, 1.0),
            ("most_loss", 0.0, 0.5),
            ("competitors", 0, 16),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(
                    f"`{name}` must lie in [{least}, {most}], got {getattr(self, name)}."
                )
        known = [*KINDS, *(RECORDED if self.data else ())]
        for kind in () if self.traces else self.kinds:
            if kind in RECORDED and self.data is None:
                raise ValueError(
                    f"`kinds` has {kind!r}, which is recorded, but there is no data. Name its "
                    "folder by --data DIR or NETLLM_DATA."
                )
            if kind not in known:
                raise ValueError(unknown("value of `kinds`", kind, known))

    def links(self, part: str, *, episodes: int | None = None, seed: int = 0) -> list[Link]:
        """Links of `train`, `valid` or `test`.

        `test` gives the first `episodes` of 100 fixed links; `train` and `valid` draw as many as
        are asked for, 400 and 60 unless told.

        Args:
            part: `train`, `valid` or `test`.
            episodes: Number of links.
            seed: Of the drawn links.

        Raises:
            ValueError: Unknown part, or more test links than there are.
        """
        if part not in PARTS:
            raise ValueError(f"`part` must be one of {', '.join(PARTS)}, got {part!r}.")
        count = COUNTS[part] if episodes is None else episodes
        if count < 1 or (part == "test" and count > COUNTS["test"]):
            limit = f" and at most {COUNTS['test']}, the size of the test part"
            raise ValueError(
                f"`episodes` must be at least 1{limit if part == 'test' else ''}, got {episodes}."
            )
        return train_valid_test.links(self, part, count, seed)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The traces that it is made of, with their digest."""
        if self.traces is not None:
            only = own_data.parts_of(self.traces) or own_data.files_of(self.traces)
            return (of_files("traces", self.traces, origin="own", only=only),)
        if self.data is None or not set(self.kinds) & set(RECORDED):
            return (generated("traces"),)
        folder = self.data / "abr" / "traces"
        only = streaming.published_files("default")
        return (of_files("traces", folder, origin="published", name="fcc", only=only),)

    @property
    def divided(self) -> str | None:
        """How own traces were divided, in a sentence; None where they were not."""
        if self.traces is None or not self.split:
            return None
        mine = streaming.own_parts(self.traces)
        return None if mine is None else own_data.sentence(self.traces.name, "traces", mine)


_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "two-flows": {"competitors": 1},
    "unseen-range": {"beyond": 4.0},
    "satellite": {
        "least_mbps": 10.0,
        "most_mbps": 60.0,
        "least_rtt_ms": 500.0,
        "most_rtt_ms": 800.0,
        "least_buffer": 0.1,
        "most_buffer": 1.0,
        "lossy": 1.0,
        "kinds": ("satellite",),
    },
    "cellular": {
        "least_mbps": 2.0,
        "most_mbps": 20.0,
        "least_rtt_ms": 40.0,
        "least_buffer": 4.0,
        "most_buffer": 16.0,
        "lossy": 0.0,
        "kinds": ("cellular",),
    },
    "synthetic": {"intervals": 60},
}
_RECORDED_IN = {"default": "broadband", "two-flows": "broadband", "cellular": "mobile"}


def settings() -> dict[str, str]:
    """Names of the settings, each with one line on what it is."""
    return dict(_DESCRIPTIONS)


def setting(name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
    """The named setting, with any of its fields overridden.

    Args:
        name: A name of `settings()`.
        data: Folder of the real data; by default the environment variable NETLLM_DATA. Without
            either, generators serve every setting; those that would have recorded traces say so
            in `synthetic`.
        overrides: Fields to change.

    Raises:
        ValueError: Unknown setting or field (with the nearest names), or a value that does not fit.
        FileNotFoundError: The folder of data, or of own traces, is not there.
    """
    known = [one.name for one in fields(Setting) if one.name not in Setting.fixed_fields]
    check_names(name, overrides, names=list(_DESCRIPTIONS), fields=known)
    kind = _RECORDED_IN.get(name)
    root = data_root(
        "default" if kind else "synthetic",
        data,
        holds=lambda folder: (folder / "abr" / "traces").is_dir(),
        needed="abr/traces",
    )
    preset = Setting(name=name, data=root, **_PRESETS[name])
    if root is not None and kind is not None:
        preset = replace(preset, kinds=(*preset.kinds, kind))
    changes = {key: _read(key, value) for key, value in overrides.items() if value is not None}
    if "traces" in changes:
        return replace(preset, **changes, kinds=("own",))
    stands_in = name == "synthetic" or (kind is not None and root is None)
    return replace(preset, **changes, synthetic=stands_in)


def _read(field: str, value: object) -> Any:
    """A field's value, also from text."""
    if field == "kinds":
        return _words(field, value)
    if field == "split":
        return yes_or_no(field, value)
    if field in ("intervals", "competitors"):
        return natural(field, value)
    if field == "traces":
        folder = existing(field, value, "folder of traces")
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder}: `traces` must be a folder, got a file.")
        return folder
    return number(field, value)


def _words(field: str, value: object) -> tuple[str, ...]:
    words = [word(field, one).strip() for one in items(field, value)]
    if not words or not all(words):
        raise ValueError(f"`{field}` must be one or more names with commas between, got {value!r}.")
    return tuple(words)
