"""A frozen vision transformer of timm, with the weights asked for."""

import difflib
import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

RANDOM = "random"


def vit(
    name: str, *, weights: str | Path | None, seed: int, image_size: tuple[int, int]
) -> nn.Module:
    """The model, frozen, for images of that height and width.

    Args:
        name: timm's name of a ViT, with or without the tag of its weights.
        weights: None for those that timm names, from its hub; "random"; or a safetensors file. No
            other kind is read, and none by timm: its loader takes pickles, which can run code.
        seed: Of random weights; the global generator is left as it was.
        image_size: Height and width in pixels; position embeddings are resampled to it.

    Raises:
        ModuleNotFoundError: If timm is not installed.
        ValueError: If the name is unknown or no ViT, the size is no multiple of its patches, or
            the file does not fit it.
        FileNotFoundError: If there is no such file.
        OSError: If timm's weights cannot be had.
    """
    timm = needed("timm")
    # "hf-hub:" and "local-dir:" would lead timm to other people's files.
    if ":" in name or "/" in name or not timm.is_model(name):
        known = timm.list_models("*vit*")
        near = difflib.get_close_matches(name.partition(".")[0], known, n=3) or known[:3]
        raise ValueError(
            f"`model` must be a name that timm knows, got {name!r}. "
            f"Did you mean {' or '.join(map(repr, near))}?"
        )
    # A model is drawn even where its weights are then overwritten.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            source = {} if weights == RANDOM else _pretrained(name, weights)
            model: nn.Module = timm.create_model(
                name, pretrained=bool(source), num_classes=0, img_size=image_size, **source
            )
        except Exception as error:  # a dozen libraries' own, down to the network's
            raise _explained(error, name, weights) from error
    _check(model, name, image_size)
    return model.eval().requires_grad_(False)


def existing(weights: Path) -> Path:
    """The file of weights, when it is there.

    Raises:
        FileNotFoundError: If it is not.
    """
    if not weights.is_file():
        raise FileNotFoundError(
            f"`weights` must be None for timm's own, {RANDOM!r}, or a file; "
            f"there is no file {str(weights)!r}."
        )
    return weights


def needed(module: str) -> Any:
    """The module of the extra `vision`.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"features of frames need the module {error.name!r}, which is not installed. "
            'In a clone: python -m pip install "./packages/netllm-encoders[vision]"',
            name=error.name,
        ) from error


def _pretrained(name: str, weights: str | Path | None) -> dict[str, Any]:
    """What makes timm fill a model with weights that were read here."""
    models = importlib.import_module("timm.models")
    config = models.get_pretrained_cfg(name, allow_unregistered=True)
    file = _from_hub(config) if weights is None else existing(Path(weights))
    state = _read(file)
    # timm's own `file` lets a file pass that fits in no key, once the classifier is left out.
    classifier = config.classifier or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    state = {key: value for key, value in state.items() if key.rpartition(".")[0] not in heads}
    if not state:
        raise ValueError("no weights")  # timm would take an empty state for none, and ask its hub
    return {"pretrained_cfg_overlay": {"state_dict": state, "num_classes": 0, "source": "file"}}


def _read(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: If it is none.
    """
    safetensors = needed("safetensors")
    try:
        state: dict[str, torch.Tensor] = needed("safetensors.torch").load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"no safetensors file ({error}). Other kinds, such as .pth, can run code and are not "
            "read: load it where you trust it, then safetensors.torch.save_file(state, FILE)"
        ) from error
    return state


def _from_hub(config: Any) -> Path:
    """The safetensors file that timm registers for a model, downloaded unless it is cached."""
    if not config.hf_hub_id or config.custom_load == "hf":
        raise OSError("it registers no safetensors file for them")
    hub = needed("huggingface_hub")
    name = config.hf_hub_filename or "model.safetensors"
    return Path(hub.hf_hub_download(config.hf_hub_id, str(Path(name).with_suffix(".safetensors"))))


def _explained(error: Exception, name: str, weights: str | Path | None) -> Exception:
    if isinstance(error, TypeError):
        return ValueError(f"`model` must be a ViT, which takes any size of image, got {name!r}.")
    if weights is None:
        return OSError(
            f"the weights of {name!r} could not be had from timm ({error}). Get its file where "
            f"there is a network and give it as `weights=`, or take `weights={RANDOM!r}`, whose "
            "features still tell where something is; netllm adapt vp --image-weights FILE, or "
            f"{RANDOM}."
        )
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ValueError(
        f"{weights}: must hold weights of {name!r}, got: {reason}. Was the file saved from "
        "another model?"
    )


def _check(model: nn.Module, name: str, image_size: tuple[int, int]) -> None:
    if not all(hasattr(model, part) for part in ("blocks", "patch_embed", "forward_intermediates")):
        raise ValueError(f"`model` must be a ViT, a stack of blocks over patches, got {name!r}.")
    patch = patch_size(model)
    if image_size[0] % patch[0] or image_size[1] % patch[1]:
        raise ValueError(
            f"`image_size` must be a multiple of the model's patches of {patch[0]} x {patch[1]} "
            f"pixels, got {image_size[0]} x {image_size[1]}."
        )


def patch_size(model: nn.Module) -> tuple[int, int]:
    """Height and width in pixels of the patches that a ViT sees."""
    height, width = model.patch_embed.patch_size  # type: ignore[union-attr, misc]
    return int(height), int(width)  # type: ignore[arg-type]
