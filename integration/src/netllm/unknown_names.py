"""The error for a name that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """An error that says what a name should have been: the nearest known ones, then all."""
    from netllm_sims import setting_values

    return ValueError(setting_values.unknown(kind, name, sorted(known) or ["none"]))
