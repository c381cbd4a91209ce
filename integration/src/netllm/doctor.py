"""What there is on this machine for netllm to work with, and how to get what is missing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from netllm.data import download
from netllm.registry import DEFAULT_BACKBONE
from netllm.report.provenance import installed_version

PACKAGES = (
    *("netllm", "netllm-adapt", "netllm-baselines", "netllm-encoders", "netllm-heads"),
    *("netllm-sims", "torch", "transformers", "peft", "accelerate", "safetensors", "triton"),
    *("bitsandbytes", "torch-geometric", "timm", "numba", "numpy", "scipy", "pyarrow"),
)
OPTIONAL = {
    "timm": ("images of the video (vp)", "netllm-encoders[vision]"),
    "bitsandbytes": ("backbones in 4 or 8 bits", "netllm-adapt[quantised]"),
    "fastapi": ("netllm serve", "netllm[serve]"),
    "playwright": ("netllm real", "netllm[real]"),
    "captum": ("netllm explain", "netllm[explain]"),
    "onnxscript": ("netllm export", "netllm-adapt[onnx]"),
    "tensorboard": ("--tracker tensorboard", "netllm-adapt[tensorboard]"),
    "trackio": ("--tracker trackio", "netllm-adapt[trackio]"),
    "wandb": ("--tracker wandb", "netllm-adapt[wandb]"),
    "triton": ("the fused operations on a GPU", "netllm-adapt[triton]"),
}
"""By module what it is for, and the package of ours, with its extra, that brings it."""
ABILITIES: Mapping[str, frozenset[str]] = {
    "avx512": frozenset({"avx512f"}),
    "vnni": frozenset({"avx512_vnni", "avx_vnni"}),
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "amx": frozenset({"amx_tile"}),
}
"""What a processor can, and the flags of Linux that tell so; any one is enough."""


@dataclass(frozen=True)
class Processor:
    """The machine's processor."""

    name: str
    cores: int | None
    """Physical ones; None where the system does not tell."""
    threads: int
    """That this process may run on."""
    torch_threads: int
    torch_capability: str
    """The instructions that torch chose, such as AVX512."""
    abilities: dict[str, bool]
    """Of `ABILITIES`; empty where the system does not tell."""


@dataclass(frozen=True)
class Device:
    """Where a model can compute."""

    name: str
    """As `--device` has it."""
    what: str
    memory_bytes: int


@dataclass(frozen=True)
class Cache:
    """A folder in which something is kept between runs."""

    what: str
    path: Path
    bytes: int
    """Of all its files; 0 where it does not exist."""


@dataclass(frozen=True)
class DataPart:
    """Public data of one origin."""

    path: str
    """How the files' paths begin in the data folder."""
    what: str
    files: int
    """How many there are; what they hold is checked by `netllm data check`."""
    of: int


@dataclass(frozen=True)
class Missing:
    """Something that is not there, which may do no harm."""

    what: str
    command: str
    """That mends it."""


@dataclass(frozen=True)
class Health:
    """All findings."""

    python: str
    system: str
    versions: dict[str, str | None]
    """By package; None if it is not installed."""
    processor: Processor
    memory_bytes: int
    memory_free_bytes: int
    devices: list[Device]
    caches: list[Cache]
    backbones: dict[str, bool]
    """Known language models by name, and whether each is ready."""
    data_folder: Path | None
    """That NETLLM_DATA or `--data` names."""
    data: list[DataPart]
    missing: list[Missing]


def examine(data: Path | None = None) -> Health:
    """What this machine has for netllm; nothing is loaded from a network, nothing is changed.

    Args:
        data: folder of real data; NETLLM_DATA if None.
    """
    import psutil
    from netllm_adapt.backbone import backbones

    folder = data or (Path(named) if (named := os.environ.get("NETLLM_DATA")) else None)
    memory = psutil.virtual_memory()
    ready = {one.name: one.cached for one in backbones()}
    parts = [*_parts(folder)] if folder is not None else []
    devices = [*_devices(memory.total)]
    return Health(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        versions={name: installed_version(name) for name in PACKAGES},
        processor=_processor(),
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        devices=devices,
        caches=[Cache(what, path, size_bytes(path)) for what, path in _cache_folders().items()],
        backbones=ready,
        data_folder=folder,
        data=parts,
        missing=[*_missing(ready, folder, parts, devices)],
    )


def _processor() -> Processor:
    import psutil
    import torch
    from netllm_adapt.processor import cpu_facts, processor

    affinity = getattr(os, "sched_getaffinity", None)
    flags = cpu_facts().flags
    return Processor(
        name=processor(),
        cores=psutil.cpu_count(logical=False),
        threads=len(affinity(0)) if affinity else os.cpu_count() or 1,
        torch_threads=torch.get_num_threads(),
        torch_capability=torch.backends.cpu.get_cpu_capability(),
        abilities={what: bool(flags & known) for what, known in ABILITIES.items()} if flags else {},
    )


def _devices(memory_bytes: int) -> Iterator[Device]:
    import torch

    yield Device("cpu", platform.machine(), memory_bytes)
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        what = f"{found.name}, compute capability {found.major}.{found.minor}"
        yield Device(f"cuda:{index}", what, found.total_memory)
    if torch.backends.mps.is_available():
        yield Device("mps", "Apple GPU", memory_bytes)


def _cache_folders() -> dict[str, Path]:
    from huggingface_hub.constants import HF_HUB_CACHE
    from netllm_adapt.backbone import cache_folder

    return {
        "language models": cache_folder() / "backbones",
        "public data": download.cache_folder(),
        "models of the hub": Path(HF_HUB_CACHE),
        "compiled GPU operations": Path(
            os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache"
        ),
    }


def size_bytes(folder: Path) -> int:
    """The size of all files below a folder, each counted once; 0 if there is no such folder."""
    files = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def _parts(folder: Path) -> Iterator[DataPart]:
    paths = download.registered()
    for source in download.SOURCES:
        own = [path for path in paths if path.startswith(source.prefix)]
        held = sum((folder / path).is_file() for path in own)
        yield DataPart(source.prefix, source.title, held, len(own))


def _missing(
    backbones: Mapping[str, bool], folder: Path | None, parts: list[DataPart], devices: list[Device]
) -> Iterator[Missing]:
    if not backbones.get(DEFAULT_BACKBONE):
        yield Missing(
            f"the default language model {DEFAULT_BACKBONE}",
            f"netllm backbone pull {DEFAULT_BACKBONE}",
        )
    yield from _missing_data(folder, parts)
    on_gpu = any(one.name.startswith("cuda") for one in devices)
    for module, (what, package) in OPTIONAL.items():
        if find_spec(module) is None and (on_gpu or module != "triton"):
            yield Missing(f"{module}, for {what}", install_command(package))


def install_command(package: str) -> str:
    """What installs a package of ours with an extra, run in a clone: no index has them yet."""
    return f"python -m pip install './packages/{package}'"


def _missing_data(folder: Path | None, parts: list[DataPart]) -> Iterator[Missing]:
    cache = download.cache_folder()
    if folder is None and cache.is_dir():
        yield Missing("NETLLM_DATA, which names the data folder", f"export NETLLM_DATA={cache}")
    elif folder is None:
        yield Missing("real data (generated data serve every command)", "netllm data fetch")
    elif not folder.is_dir():
        yield Missing(f"the data folder {folder}", f"netllm data fetch --data {folder}")
    for part in parts if folder is not None and folder.is_dir() else ():
        if part.files < part.of:
            what = f"{part.of - part.files} of {part.of} files of {part.path} ({part.what})"
            yield Missing(what, f"netllm data fetch --data {folder}")
