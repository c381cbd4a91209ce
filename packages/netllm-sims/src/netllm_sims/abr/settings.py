"""Named settings: which traces and video, and the numbers of player and link."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims import own_data
from netllm_sims.abr import live, mobile_settings, train_valid_test
from netllm_sims.abr.qoe import QoE, quality_thousandths
from netllm_sims.abr.sessions import Session
from netllm_sims.abr.setting_video import setting_video, video_options
from netllm_sims.abr.synthetic import GENERATED
from netllm_sims.abr.video import Video
from netllm_sims.abr.worlds import NAMES as WORLDS
from netllm_sims.abr.worlds import randomise
from netllm_sims.data_sources import Origin, Source, generated, of_files
from netllm_sims.setting_values import (
    check_names,
    data_root,
    existing,
    number,
    unknown,
    word,
    yes_or_no,
)

_DESCRIPTIONS = {
    "default": "fcc-test on video1; trains on fcc-train without any trace of fcc-test",
    "many-starts": "the traces of default from a start every 20 s: 1,600 sessions, finer verdicts",
    "paper-split": "fcc-test on video1; trains and validates on the published files, which leak",
    "unseen-video": "fcc-test on video2",
    "unseen-bandwidth": "100 seeded GENET-style traces on video1",
    "unseen-both": "100 seeded GENET-style traces on video2",
    "3g": "seeded traces like Norway's HSDPA, and a seeded video; needs no data",
    "4g-5g": "seeded traces like four sets of 4G and 5G, rates to 40 Mbit/s; needs no data",
    "live": "half a second per chunk, 1.5 s behind the live edge, on the traces of default",
    "synthetic": "seeded Markov-modulated traces on a seeded video; needs no data",
}
_SPLITS = {
    "many-starts": train_valid_test.many_starts,
    "paper-split": train_valid_test.paper_split,
}
_FIELDS: dict[str, dict[str, Any]] = {"live": live.FIELDS, **mobile_settings.FIELDS}
"""Fields of named settings that differ from the usual ones."""
_DATA_OF = {"live": "default", **dict.fromkeys(mobile_settings.LINKS, "synthetic")}
"""The setting whose data a setting takes, if not its own."""
_VIDEO_FIELDS = ("rates_kbps", "chunk_s", "chunks")
_WORD_FIELDS = ("worlds", "trace_name", "quality")
_FIXED_FIELDS = ("name", "data", "synthetic")
# With the bounds of traces, videos and scales they keep a chunk's laps around its trace, and the
# steps in which a buffer drains, below 2^52: there the compiled core would round whole laps away.
_LEAST_SHARE = 0.01
_BOUNDS_S = {
    "live_target_s": (0.0, 60.0),
    "latency_s": (0.0, 86_400.0),
    "rtt_s": (0.0, 86_400.0),
    "buffer_cap_s": (0.0, 1e9),
    "drain_s": (1e-6, 1e9),
    "skip_s": (0.0, 1e9),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """One configuration of the task; build it with `setting(name, …)`.

    Raises:
        ValueError: A number outside its range.
    """

    training_fields: ClassVar[frozenset[str]] = frozenset({"alter", "worlds", "trace_name"})
    """Fields that change what is trained and validated on, and nothing that is tested."""
    inner_fields: ClassVar[dict[str, tuple[str, ...]]] = {"video": _VIDEO_FIELDS}
    """Fields of the video that `setting` overrides too."""

    name: str
    """Name of the setting that it began as."""
    data: Path | None = None
    """Folder of the real data, if it was used."""
    synthetic: bool = False
    """Whether seeded generators stand in for real traces and video."""
    video: Video
    """The video played: `video1` or `video2` of the data, `synthetic`, or a folder of files
    `video_size_0` and so on."""
    traces: Path | None = None
    """Own folder of traces: flat, or with subfolders `train`, `valid`, `test`."""
    split: bool = True
    """Whether a flat folder of own traces is divided into training, validation and test by content;
    else every part has all of them."""
    quality: str = "linear"
    """What the QoE takes a chunk's quality to be: the bitrate in Mbit/s (`linear`), `log`, `hd`, or
    a `table` of the video's own numbers."""
    rebuffering: float = 4.3
    """QoE penalty per second without playback, in the unit of quality; unless it is given, 2.66 for
    `log`, 8 for `hd` and 100 for a `table`; in `4g-5g` 40, and 3.69 for `log`; live, that of
    LoL+."""
    smoothness: float = 1.0
    """QoE penalty per unit of change between two chunks; live, unless given, 1 / `chunk_s`."""
    live_target_s: float = 0.0
    """Live: seconds behind the live edge that the player aims at; 0 is video on demand."""
    catch_up: float = 0.5
    """Live: largest change of the speed of playback by which the player gets there."""
    skip_s: float = 12.0
    """Live: latency in s above the target from which the player jumps to the target."""
    latency_s: float = 0.0
    """Seconds of deciding that pass before each chosen request leaves."""
    rtt_s: float = 0.08
    """Round trip in s that each chunk's download takes longer, without moving the trace unless
    live."""
    packet_share: float = 0.95
    """Share of the bandwidth left for payload."""
    buffer_cap_s: float = 60.0
    """Buffer in s above which the player pauses its downloads; live, unless given, the target."""
    drain_s: float = 0.5
    """Step in s in which it then pauses; unused live."""
    delay_noise: float = 0.0
    """Download times are multiplied by U(1 - x, 1 + x)."""
    alter: float = 0.0
    """Share of the random training sessions that are randomised, as `worlds` says."""
    worlds: str = "near"
    """How: `near` alters the traces a little; `wide` draws other bandwidths and chunk sizes too."""
    trace_name: str = ""
    """Train and validate only on traces with this text in their name; tests keep all."""

    def __post_init__(self) -> None:
        _ = self.qoe, self.chunk_quality
        for name, (least, most) in _BOUNDS_S.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"`{name}` must lie in [{least:g}, {most:g}] s, got {value}.")
        if self.buffer_cap_s < self.drain_s and not self.live:  # live, no buffer drains in steps
            raise ValueError(
                f"`buffer_cap_s` must be at least one step `drain_s` of {self.drain_s} s, "
                f"got {self.buffer_cap_s}."
            )
        if not _LEAST_SHARE <= self.packet_share <= 1:
            raise ValueError(
                f"`packet_share` must lie in [{_LEAST_SHARE}, 1], got {self.packet_share}."
            )
        if not 0 <= self.alter <= 1:
            raise ValueError(f"`alter` must lie in [0, 1], got {self.alter}.")
        if self.worlds not in WORLDS:
            raise ValueError(unknown("value of `worlds`", self.worlds, list(WORLDS)))
        if self.worlds != "near" and self.alter == 0:
            raise ValueError(
                f"`worlds` is {self.worlds!r}, but no session is randomised. Set the share of "
                "those that are, such as alter=0.65."
            )
        if not 0 <= self.delay_noise < 1:
            raise ValueError(f"`delay_noise` must lie in [0, 1), got {self.delay_noise}.")
        if not 0 <= self.catch_up < 1:
            raise ValueError(f"`catch_up` must lie in [0, 1), got {self.catch_up}.")
        if self.live:
            live.check(self)

    @property
    def live(self) -> bool:
        """Whether chunks are produced while they are watched; else it is video on demand."""
        return self.live_target_s > 0

    @property
    def qoe(self) -> QoE:
        """Weights of the QoE."""
        own = {"rebuffering": self.rebuffering, "smoothness": self.smoothness}
        return QoE(**(live.weights(self.video) if self.live else {}) | own)

    @property
    def chunk_quality(self) -> Float[ndarray, "chunk level"]:
        """Quality of every chunk at every level, for the QoE."""
        return quality_thousandths(self.quality, self.video) / 1000

    @property
    def rates_kbps(self) -> tuple[float, ...]:
        """The video's ladder."""
        return self.video.rates_kbps

    @property
    def chunk_s(self) -> float:
        """Playback time of a chunk."""
        return self.video.chunk_s

    @property
    def chunks(self) -> int:
        """Chunks played; one less is decided."""
        return self.video.chunks

    def sessions(self, part: str, *, episodes: int | None = None, seed: int = 0) -> list[Session]:
        """Sessions of `train`, `valid` or `test`.

        Without `episodes`: every trace of the part once, in file order, at its fixed start (the
        published pointer where there is one). With it: `test` gives the first so many of these;
        `train` and `valid` give so many random sessions, each a random trace from a random start.

        Args:
            part: `train`, `valid` or `test`.
            episodes: Number of sessions.
            seed: Of the random sessions.

        Raises:
            ValueError: Unknown part, a part that the setting lacks, or more test sessions than
                there are.
        """
        fixed = self._fixed(part)
        if episodes is None:
            return fixed
        if episodes < 1 or (part == "test" and episodes > len(fixed)):
            limit = (
                f" and at most {len(fixed)}, the size of the test part" if part == "test" else ""
            )
            raise ValueError(f"`episodes` must be at least 1{limit}, got {episodes}.")
        if part == "test":
            return fixed[:episodes]
        rng = np.random.default_rng([seed, train_valid_test.PARTS.index(part)])
        drawn = [
            train_valid_test.draw(fixed, rng, id=f"{part}-s{seed}-{number:06d}")
            for number in range(episodes)
        ]
        return self.randomise(drawn, drawn, rng) if part == "train" else drawn

    def randomise(
        self, sessions: Sequence[Session], others: Sequence[Session], rng: np.random.Generator
    ) -> list[Session]:
        """The sessions, the share `alter` of them randomised as `worlds` says.

        Args:
            sessions: What to randomise.
            others: Sessions whose traces may follow.
            rng: Randomness.
        """
        return randomise(sessions, others, self.video, rng, share=self.alter, worlds=self.worlds)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The traces and the video that it is made of, with their digests."""
        return (self._trace_source(), self._video_source())

    @property
    def divided(self) -> str | None:
        """How own traces were divided, in a sentence; None where they were not."""
        if self.traces is None or not self.split:
            return None
        mine = train_valid_test.own_parts(self.traces)
        return None if mine is None else own_data.sentence(self.traces.name, "traces", mine)

    def _trace_source(self) -> Source:
        if self.traces is not None:
            only = own_data.parts_of(self.traces) or own_data.files_of(self.traces)
            return of_files("traces", self.traces, origin="own", only=only)
        if self.data is None or self.name in ("unseen-bandwidth", "unseen-both"):
            return generated("traces")
        only = train_valid_test.published_files(self.name)
        folder = self.data / "abr" / "traces"
        return of_files("traces", folder, origin="published", name="fcc", only=only)

    def _video_source(self) -> Source:
        video = self.video
        if video.folder is not None:
            published = self.data is not None and self.data in video.folder.parents
            origin: Origin = "published" if published else "own"
            only = [
                name
                for name in own_data.files_of(video.folder)
                if name.startswith(("video_size_", "video_quality_"))
            ]
            return of_files("video", video.folder, origin=origin, only=only)
        if video.name == GENERATED:
            return generated("video")
        return Source(kind="video", name=video.name, origin="own", sha256=video.digest)

    def clean_ids(self) -> list[str]:
        """Ids of the test sessions whose trace content occurs in no published training file."""
        return [session.id for session in self.sessions("test") if "clean" in session.tags]

    def _fixed(self, part: str) -> list[Session]:
        """Sessions of the part at their fixed starts, those of `trace_name` unless it tests."""
        every = self._every(part)
        if part == "test" or not self.trace_name:
            return every
        named = [session for session in every if self.trace_name in session.trace.id]
        if not named:
            raise ValueError(
                f"`trace_name` must be part of the names of some {part} traces of {self.name!r}, "
                f"got {self.trace_name!r} and names such as {every[0].trace.id!r}."
            )
        return named

    def _every(self, part: str) -> list[Session]:
        if part not in train_valid_test.PARTS:
            raise ValueError(
                f"`part` must be one of {', '.join(train_valid_test.PARTS)}, got {part!r}."
            )
        if self.traces is not None:
            return train_valid_test.own(self.traces, part, split=self.split)
        if self.name.startswith("unseen-") and part != "test":
            raise ValueError(
                f"Setting `{self.name}` has only a `test` part, got {part!r}. Train on `default`."
            )
        if self.name in ("unseen-bandwidth", "unseen-both"):
            return train_valid_test.unseen_bandwidth()
        if self.name in mobile_settings.LINKS:
            return train_valid_test.cellular(mobile_settings.LINKS[self.name], part)
        if self.data is None:
            return train_valid_test.synthetic(part)
        return _SPLITS.get(self.name, train_valid_test.default)(self.data, part)


def settings() -> dict[str, str]:
    """Names of the settings, each with one line on what it is."""
    return dict(_DESCRIPTIONS)


def setting(name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
    """The named setting, with any of its fields overridden.

    Besides the fields of `Setting`: `video` also takes a folder of `video_size_*` files or the name
    of one in the data (`video1`, `video2`) or `synthetic`; `rates_kbps`, `chunk_s`, `chunks` change
    the video (a real one keeps its sizes, a synthetic one is generated anew).

    Args:
        name: A name of `settings()`.
        data: Folder of the real data; by default the environment variable NETLLM_DATA. Without
            either, `default` is served by the seeded generators and says so in `synthetic`.
        overrides: Fields to change.

    Raises:
        ValueError: Unknown setting or field (with the nearest names), or a value that does not fit.
        FileNotFoundError: The real data is needed but not there.
    """
    others = ("video", "traces", "split", *_WORD_FIELDS)
    numbers = [f.name for f in fields(Setting) if f.name not in (*_FIXED_FIELDS, *others)]
    known = [*others, *numbers, *_VIDEO_FIELDS]
    check_names(name, overrides, names=list(_DESCRIPTIONS), fields=known)
    own_video = overrides.get("video") is not None
    overrides = _FIELDS.get(name, {}) | {k: v for k, v in overrides.items() if v is not None}
    root = data_root(
        _DATA_OF.get(name, name),
        data,
        holds=lambda folder: (folder / "abr" / "traces").is_dir(),
        needed="abr/traces and abr/videos",
    )
    changes = _changes(overrides, numbers)
    chosen = overrides.get("video")
    if chosen is None and root is not None:
        chosen = "video2" if name in ("unseen-video", "unseen-both") else "video1"
    generated = chosen is None or chosen == "synthetic"
    video = setting_video(None if generated else chosen, root, video_options(overrides))
    usual: dict[str, Any] = {}
    if changes.get("live_target_s", 0) > 0:
        usual = live.usual(changes["live_target_s"], video)
    if "quality" in changes or not usual:
        usual["rebuffering"] = mobile_settings.rebuffering(name, changes.get("quality", "linear"))
    stands_in = generated and (own_video or name != "live")
    return Setting(
        name=name,
        data=root,
        synthetic=stands_in or (root is None and "traces" not in changes),
        video=video,
        **(usual | changes),
    )


def _changes(overrides: dict[str, Any], numbers: list[str]) -> dict[str, Any]:
    """Fields of `Setting` but for the video, as their types, from what was given."""
    changes: dict[str, Any] = {
        key: number(key, overrides[key]) for key in numbers if key in overrides
    }
    if "traces" in overrides:
        changes["traces"] = _folder(overrides["traces"])
    if "split" in overrides:
        changes["split"] = yes_or_no("split", overrides["split"])
    return changes | {key: word(key, overrides[key]) for key in _WORD_FIELDS if key in overrides}


def _folder(value: object) -> Path:
    folder = existing("traces", value, "folder of traces")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: `traces` must be a folder, got a file.")
    return folder
