"""`netllm doctor`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from netllm.commands.options import Data, Output
from netllm.commands.printed_answer import Answer

if TYPE_CHECKING:
    from netllm.doctor import Health, Processor


def doctor(*, data: Data = None, output: Output = Output()) -> Answer:
    """What there is on this machine for netllm, and the command that gets what is missing."""
    from netllm.doctor import examine

    health = examine(data)
    return Answer(dataclasses.asdict(health), "\n".join(_lines(health)))


def _lines(health: Health) -> Iterator[str]:
    yield f"Python {health.python} on {health.system}"
    known = (f"{name} {version}" for name, version in health.versions.items() if version)
    yield f"Packages: {', '.join(known)}"
    yield from _processor(health.processor)
    yield f"Memory: {_size(health.memory_bytes)}, {_size(health.memory_free_bytes)} of it free"
    for device in health.devices:
        yield f"Device {device.name}: {device.what}, {_size(device.memory_bytes)}"
    for cache in health.caches:
        yield f"Cache of {cache.what}: {cache.path}, {_size(cache.bytes)}"
    ready = [name for name, is_ready in health.backbones.items() if is_ready]
    yield f"Language models that are ready: {', '.join(ready)}"
    yield f"Data folder: {health.data_folder or 'none, so data are generated'}"
    for part in health.data:
        yield f"  {part.path}  {part.files} of {part.of} files: {part.what}"
    yield "Missing:" if health.missing else "Nothing is missing."
    for one in health.missing:
        yield f"  {one.what}\n    {one.command}"


def _processor(one: Processor) -> Iterator[str]:
    cores = f"{one.cores} cores, " if one.cores else ""
    yield (
        f"Processor: {one.name}, {cores}{one.threads} threads, of which torch uses "
        f"{one.torch_threads} with {one.torch_capability}"
    )
    if one.abilities:
        can = [name for name, able in one.abilities.items() if able]
        cannot = [name for name, able in one.abilities.items() if not able]
        lacks = f"; it lacks {', '.join(cannot)}" if cannot else ""
        yield f"  It is good at: {', '.join(can) or 'nothing in particular'}{lacks}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
