"""Named settings: which flows are learned from, and which are classified."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims import own_data
from netllm_sims.data_sources import Source, generated, of_files
from netllm_sims.flows import train_valid_test
from netllm_sims.flows.flow_files import check_columns, load_flows
from netllm_sims.flows.limits import MOST_PACKETS
from netllm_sims.flows.rollout import HostDay
from netllm_sims.flows.synthetic_applications import ATTACKS, BENIGN, HARMLESS, UNKNOWN
from netllm_sims.flows.synthetic_traffic import traffic
from netllm_sims.flows.table import Flows
from netllm_sims.flows.train_valid_test import SPLITS
from netllm_sims.own_data import PARTS, NoneOfPart, Stamp, stamp
from netllm_sims.setting_values import check_names, existing, items, natural, number, unknown, word

_log = logging.getLogger(__name__)
_DESCRIPTIONS = {
    "default": "other flows of the hosts and days that trained",
    "unseen-hosts": "hosts that never trained",
    "unseen-days": "later days of the hosts that trained, with updated software",
    "unknown-classes": "hosts that never trained, which also use classes that never trained",
    "synthetic": "few hosts and days",
}
_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "unseen-hosts": {"split": "host"},
    "unseen-days": {"split": "day"},
    "unknown-classes": {"split": "host", "unknown": tuple(UNKNOWN)},
    "synthetic": {"hosts": 15, "days": 5, "packets": 20},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """One configuration of the task; build it with `setting(name, …)`.

    What is read or generated is kept with the object.

    Raises:
        ValueError: A number outside its range.
    """

    fixed_fields: ClassVar[frozenset[str]] = frozenset({"name", "synthetic"})
    """Fields that cannot be overridden."""

    name: str
    """Name of the setting that it began as."""
    synthetic: bool = True
    """Whether the seeded generator stands in for recorded flows."""
    flows: Path | None = None
    """Own file of flows, or folder of such, flat or with subfolders `train`, `valid`, `test`; see
    `load_flows`. `netllm import flows` makes them of captures and of published CSVs."""
    split: str = "flow"
    """How parts are divided where there are no such subfolders: by `flow`, `host` or `day`, or
    `none`: every part has all flows."""
    unknown: tuple[str, ...] = ()
    """Classes that only test, as if nobody had known them in training."""
    benign: tuple[str, ...] = ()
    """Classes of own flows that are no attacks; all others are. If empty, none is."""
    packets: int = 30
    """First packets of a flow that are seen."""
    hosts: int = 80
    """Generated hosts."""
    days: int = 25
    """Days on which they are observed."""
    flows_per_day: float = 8.0
    """Mean number of flows of a generated host on a day."""
    seed: int = 0
    """Of the generator."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("packets", 1, MOST_PACKETS),
            ("hosts", 3, 10_000),
            ("days", 3, 1_000),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(
                    f"`{name}` must lie in [{least}, {most}], got {getattr(self, name)}."
                )
        if not 0 < self.flows_per_day <= 1_000:
            raise ValueError(f"`flows_per_day` must lie in (0, 1000], got {self.flows_per_day}.")
        if self.split not in SPLITS:
            raise ValueError(f"`split`: {unknown('way to divide', self.split, SPLITS)}")
        if self.flows is None and self.benign:
            raise ValueError("`benign` is for own flows: the generator's are known. Leave it out.")

    def is_benign(self, label: str) -> bool:
        """Whether a class is no attack."""
        benign = HARMLESS if self.flows is None else self.benign
        return label in benign or not benign

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the training part, sorted; of own data without one, of all."""
        self._check_names()
        try:
            known = self._part("train")
        except NoneOfPart:
            known = self._part("test")
        return tuple(sorted(set(known.label.tolist()) - set(self.unknown)))

    def places(self, learned: Sequence[str]) -> Float[ndarray, "learned class"]:
        """1 where a class of `learned` has the name of one of `classes`.

        Probabilities of what a classifier learned, times this, are those of `classes`.
        """
        return np.array([[float(name == other) for other in self.classes] for name in learned])

    @property
    def statistic_names(self) -> tuple[str, ...]:
        """Names of what is known of flows beside packets and headers."""
        return self._part("test").statistic_names

    def of_part(self, part: str) -> Flows:
        """The flows of `train`, `valid` or `test`; but for `test`, of the `classes` alone.

        Raises:
            ValueError: Unknown part, one without flows, or a file that cannot be read.
        """
        if part not in PARTS:
            raise ValueError(f"`part` must be one of {', '.join(PARTS)}, got {part!r}.")
        classes, where = self.classes, self.flows or self.name
        flows = self._part(part)
        known = np.isin(flows.label, classes)
        if part != "test":
            if not known.any():
                raise ValueError(
                    f"{where}: the {part} part must have flows of a class that trained "
                    f"({', '.join(classes)}), got {len(flows):,} of other ones. Add some."
                )
            return flows if known.all() else flows[known]
        if not known.any():
            raise ValueError(
                f"{where}: the test part must have flows of a class that trained "
                f"({', '.join(classes)}), got {', '.join(sorted({*flows.label.tolist()}))}."
            )
        strange = sorted({*flows.label[~known].tolist()} - set(self.unknown))
        if strange:
            _log.warning(
                "Training never saw %s, of which the test part of %s has %d of %d flows: no answer "
                "but none of the classes is right there.",
                ", ".join(strange[:8]),
                self.name,
                int((~known).sum()),
                len(flows),
            )
        return flows

    def episodes(self, part: str, *, count: int | None = None, seed: int = 0) -> list[HostDay]:
        """The flows of a part, by host and day, in the order of their names.

        Args:
            part: `train`, `valid` or `test`.
            count: How many hosts and days; of `test` the first of a fixed mixed order, else a
                random choice.
            seed: Of that choice.

        Raises:
            ValueError: As `of_part` does, or more episodes than there are.
        """
        every = self._episodes(part)
        if count is None:
            return list(every)
        if not 1 <= count <= len(every):
            raise ValueError(
                f"`episodes` must be at least 1 and at most {len(every)}, the hosts and days of "
                f"the {part} part, got {count}."
            )
        stream = [0 if part == "test" else seed, PARTS.index(part)]
        chosen = np.random.default_rng(stream).permutation(len(every))[:count]
        return [every[k] for k in sorted(chosen.tolist())]

    @property
    def sources(self) -> tuple[Source, ...]:
        """The flows that it is made of, with their digest."""
        if self.flows is None:
            return (generated("flows"),)
        return (of_files("flows", self.flows, origin="own"),)

    @property
    def divided(self) -> str | None:
        """How own flows were divided, in a sentence; None where they were not."""
        if self.flows is None or self.split == "none" or self._has_parts:
            return None
        counts = ", ".join(f"{len(self._part(part)):,} {part}" for part in PARTS)
        return (
            f"{self.flows.name} has no folders train, valid and test, so its flows were divided by "
            f"{self.split}: {counts}. Hosts and days kept for other splits are left out."
        )

    def _check_names(self) -> None:
        """Raise unless the classes that `unknown` and `benign` name are there, in some part."""
        if not self.unknown and not self.benign:
            return
        there = {*BENIGN, *ATTACKS, *UNKNOWN} if self.flows is None else set()
        for path in self._folders or ((self.flows,) if self.flows else ()):
            there |= {*_loaded(path, stamp(path)).label.tolist()}
        for field in ("unknown", "benign"):
            for name in getattr(self, field):
                if name not in there:
                    raise ValueError(f"`{field}`: {unknown('class', name, sorted(there))}")
        if there <= {*self.unknown}:
            raise ValueError(
                f"`unknown` must leave a class to learn, got all: {', '.join(self.unknown)}."
            )

    @property
    def _folders(self) -> tuple[Path, ...]:
        """The folders of parts that own flows lie in."""
        if self.flows is None or not self.flows.is_dir():
            return ()
        return tuple(self.flows / part for part in own_data.parts_of(self.flows))

    @property
    def _has_parts(self) -> bool:
        return bool(self._folders)

    def _part(self, part: str) -> Flows:
        if part not in self._parts:
            self._parts[part] = self._divided(part).of_packets(self.packets)
        return self._parts[part]

    def _divided(self, part: str) -> Flows:
        if self.flows is None:
            every = traffic(
                hosts=self.hosts,
                days=self.days,
                flows=self.flows_per_day,
                packets=max(self.packets, 30),
                classes=(*BENIGN, *ATTACKS, *(name for name in self.unknown if name in UNKNOWN)),
                seed=self.seed,
            )
            return every[train_valid_test.rows_of(every, part, self.split, unknown=self.unknown)]
        folder = own_data.subfolder(self.flows, part) if self.flows.is_dir() else None
        every = _loaded(folder or self.flows, stamp(folder or self.flows))
        if folder is not None:
            first = self._folders[0]
            check_columns(folder, every, first, _loaded(first, stamp(first)))
            return every
        try:
            mine = every[train_valid_test.rows_of(every, part, self.split, unknown=self.unknown)]
        except ValueError as fault:
            raise NoneOfPart(f"{self.flows}: {fault}") from None
        if not len(mine):
            raise NoneOfPart(
                f"{self.flows}: divided by {self.split}, the {part} part must have flows, got "
                "none. Add some, or set split=none, with which every part has all of them."
            )
        return mine

    def _episodes(self, part: str) -> list[HostDay]:
        if part not in self._cut:
            flows = self.of_part(part)
            digests = np.array(flows.digests())
            places = np.char.add(np.char.add(flows.host.astype(str), "/"), flows.day.astype(str))
            names, of = np.unique(places, return_inverse=True)
            order = np.argsort(of, kind="stable")
            rows = np.split(order, np.flatnonzero(np.diff(of[order])) + 1)
            self._cut[part] = [
                HostDay(
                    id=str(name),
                    host=str(flows.host[some[0]]),
                    day=str(flows.day[some[0]]),
                    flows=flows[some],
                    contents=frozenset({_together(digests[some].tolist())}),
                )
                for name, some in zip(names, rows, strict=True)
            ]
        return self._cut[part]

    @cached_property
    def _parts(self) -> dict[str, Flows]:
        return {}

    @cached_property
    def _cut(self) -> dict[str, list[HostDay]]:
        return {}


def _together(digests: list[str]) -> str:
    from hashlib import sha256

    return sha256("".join(sorted(digests)).encode()).hexdigest()


@lru_cache(maxsize=4)
def _loaded(path: Path, at: Stamp) -> Flows:
    """Own flows; they are read again when a file has changed."""
    return load_flows(path)


def settings() -> dict[str, str]:
    """Names of the settings, each with one line on what it is."""
    return dict(_DESCRIPTIONS)


def setting(name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
    """The named setting, with any of its fields overridden; values may be text.

    Args:
        name: A name of `settings()`.
        data: Folder of real data, which holds no flows: all settings are generated unless `flows`
            names own ones.
        overrides: Fields to change.

    Raises:
        ValueError: Unknown setting or field (with the nearest names), or a value that does not fit.
        FileNotFoundError: The file or folder of own flows is not there.
    """
    known = [one.name for one in fields(Setting) if one.name not in Setting.fixed_fields]
    check_names(name, overrides, names=list(_DESCRIPTIONS), fields=known)
    changes = {key: _read(key, value) for key, value in overrides.items() if value is not None}
    preset = Setting(name=name, **_PRESETS[name])
    if "flows" not in changes:
        return replace(preset, **changes)
    if name == "unknown-classes" and "unknown" not in changes:
        raise ValueError(
            "`unknown-classes` of own flows needs `unknown`: the classes that only test, as "
            "unknown=NAME,NAME."
        )
    return replace(preset, **changes, synthetic=False)


def _read(field: str, value: object) -> Any:
    """A field's value, also from text."""
    if field == "flows":
        return existing(field, value)
    if field == "split":
        return word(field, value)
    if field in ("benign", "unknown"):
        words = [word(field, one).strip() for one in items(field, value)]
        if not words or not all(words):
            raise ValueError(f"`{field}` must be one or more names of classes, got {value!r}.")
        return tuple(words)
    if field == "flows_per_day":
        return number(field, value)
    return natural(field, value)
