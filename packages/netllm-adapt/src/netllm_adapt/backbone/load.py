"""Loads a frozen backbone by name, folder or model id."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from netllm_adapt.backbone.cache import backbone_folder, is_cached, verify
from netllm_adapt.backbone.catalogue import find, nearest
from netllm_adapt.backbone.first_layers import keep_blocks
from netllm_adapt.backbone.quantise import (
    check_quantise,
    quantisation,
    reload_quantised,
    same_in_both_modes,
)
from netllm_adapt.backbone.quiet_transformers import quiet
from netllm_adapt.backbone.scratch import is_scratch, scratch
from netllm_adapt.backbone.trust import FILES, RANDOM, check_model_folder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_BLOCK = re.compile(r"(^|\.)\d+\.")
"""In the name of a weight of one block among many."""
DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def load_backbone(
    name: str,
    *,
    layers: int | None = None,
    dtype: str | torch.dtype = "bfloat16",
    seed: int = 0,
    quantise: str | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> "PreTrainedModel":
    """A frozen transformers model without its LM head, in evaluation mode.

    ``scratch-WIDTHxLAYERS`` is a small network with random weights that is not frozen: what the
    same pipeline reaches without a language model.

    Call it with ``inputs_embeds``. The token embedding stays (56 MB of SmolLM2-135M in bf16), is
    never read on that path, and belongs to no checkpoint of ours.

    Args:
        name: A known backbone (see ``backbones()``), the id of a model on the hub, or a folder
            written by transformers, as safetensors; nothing of them is run. ``random-NAME`` has the
            same configuration and random weights from transformers' own initialisation; for a known
            backbone it needs no download.
        layers: Keep only the first so many blocks; None keeps all.
        dtype: Of the weights.
        seed: Of random weights; global random streams are left as they were.
        quantise: ``nf4`` or ``int8`` keeps the weights of linear layers in 4 or 8 bits: less
            memory for weights, more time. Needs bitsandbytes (extra ``quantised``); it happens on
            the CPU, the model may move then.
        cache: Folder instead of ``NETLLM_CACHE`` or the platform's cache folder.

    Raises:
        FileNotFoundError: If a known backbone was not pulled (nothing is downloaded here), or the
            id is neither a folder nor a model that transformers can reach.
        ValueError: If the name is close to a known one, ``layers`` is outside the model's range,
            ``dtype`` or ``quantise`` is unknown or does not fit, or bitsandbytes is too old.
        ModuleNotFoundError: If ``quantise`` is given, and bitsandbytes is missing.
    """
    kind = _dtype(dtype)
    if quantise is not None:
        if is_scratch(name):
            raise ValueError(f"`quantise` must be None for {name!r}: its weights are trained.")
        check_quantise(quantise, kind)
    if is_scratch(name):
        return scratch(name, dtype=kind, seed=seed).eval()
    if name.startswith(RANDOM):
        model = _random(_config(name.removeprefix(RANDOM), cache), kind, seed)
    else:
        how = {} if quantise is None else quantisation(quantise, kind)
        model = _named(name, kind, seed, cache, how)
    if layers is not None:
        keep_blocks(model, layers)
    if quantise is not None:
        if not getattr(model, "is_quantized", False):
            with quiet():
                model = reload_quantised(model, quantise, kind)
        same_in_both_modes(model)
    model.name_or_path = (
        name  # PEFT writes it into the adapter; a path of this machine must not leak
    )
    return model.requires_grad_(False).eval()


def load_tokenizer(
    name: str, *, cache: str | os.PathLike[str] | None = None
) -> "PreTrainedTokenizerBase":
    """The tokenizer of a backbone, for work on text; ``random-NAME`` has that of ``NAME``.

    Raises:
        FileNotFoundError: If the backbone is not cached, has no tokenizer or cannot be reached.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    name = name.removeprefix(RANDOM)
    known = find(name)
    if known is None:
        folder = _folder_of(name, FILES)
        check_model_folder(folder, weights=False)
        with _explained(name):
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if known.weights is None:
        raise FileNotFoundError(f"Backbone {name!r} has random weights and so no tokenizer.")
    folder = _pulled(name, cache)
    try:
        return AutoTokenizer.from_pretrained(folder)
    except ValueError:  # pulled with transformers 5, whose class transformers 4 does not know
        return PreTrainedTokenizerFast.from_pretrained(folder)


def config_of(values: Mapping[str, Any]) -> "PretrainedConfig":
    """The transformers configuration of a ``Backbone.config``."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**values)


def _random(config: "PretrainedConfig", dtype: torch.dtype, seed: int) -> "PreTrainedModel":
    """A model from transformers' own initialisation, drawn in fp32 so that all dtypes agree."""
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(config, dtype=torch.float32).to(dtype)


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    return DTYPES[dtype]


def _config(name: str, cache: str | os.PathLike[str] | None) -> "PretrainedConfig":
    from transformers import AutoConfig

    known = find(name)
    if known is not None:
        return config_of(known.config)
    folder = _folder_of(name, ("config.json",))
    check_model_folder(folder, weights=bool([*folder.glob("*.safetensors")]))
    with _explained(name):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def _folder_of(name: str, files: Sequence[str]) -> Path:
    """The folder of a model that is not in the catalogue: given as one, or fetched from the hub."""
    from huggingface_hub import snapshot_download

    with _explained(name):
        given = Path(name).is_dir()
        folder = Path(name if given else snapshot_download(name, allow_patterns=list(files)))
        if not (folder / "config.json").is_file():
            raise OSError(f"{folder} has no config.json.")
    return folder


def _named(
    name: str,
    dtype: torch.dtype,
    seed: int,
    cache: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> "PreTrainedModel":
    """A backbone that is not random; ``options`` are those of ``from_pretrained``."""
    known = find(name)
    if known is not None and known.weights is None:
        return _random(config_of(known.config), dtype, seed)
    if known is not None:
        folder = _pulled(name, cache)
        with _damage_explained(name, folder):
            model, missing = _headless(
                folder, dtype=dtype, config=config_of(known.config), **options
            )
    else:
        folder = _folder_of(name, FILES)
        if not [*folder.glob("*.safetensors")]:
            raise FileNotFoundError(
                f"{folder}: must hold weights as safetensors, has none; other kinds can run code. "
                "Where you trust them, load and save them with transformers."
            )
        check_model_folder(folder)
        with _explained(name):
            model, missing = _headless(folder, dtype=dtype, **options)
    if missing:
        raise ValueError(
            f"{name} must hold every weight of its model, it lacks {len(missing)}, first "
            f"{missing[0]}. Copy or pull it again."
        )
    return model


def _headless(source: Path, **options: Any) -> tuple["PreTrainedModel", list[str]]:
    """The model of ``source`` without its LM head, and the names of weights that it lacks.

    transformers fills what it misses with random numbers. Before version 5 that happens to whole
    Gemma 3 checkpoints saved with their head, so these are loaded with it.
    """
    from transformers import AutoModel, AutoModelForCausalLM

    bare: Any = AutoModel
    with_head: Any = AutoModelForCausalLM
    options |= {"output_loading_info": True, "local_files_only": True}
    options |= {"trust_remote_code": False, "use_safetensors": True}
    with quiet():
        model, report = bare.from_pretrained(str(source), **options)
        if report["missing_keys"]:
            whole, report = with_head.from_pretrained(str(source), **options)
            model = whole.get_decoder()
    if beyond := sorted(name for name in report["unexpected_keys"] if _BLOCK.search(name)):
        raise ValueError(
            f"{source}: config.json must describe all blocks that the weights hold, but not "
            f"{beyond[0]}. To keep the first blocks only, ask for so many layers."
        )
    return model, sorted(report["missing_keys"])


def _pulled(name: str, cache: str | os.PathLike[str] | None) -> Path:
    if not is_cached(name, cache):
        raise FileNotFoundError(
            f"Backbone {name!r} must be pulled before it is loaded; nothing whole "
            f"lies in {backbone_folder(name, cache)}. Run: netllm backbone pull {name}"
        )
    folder = backbone_folder(name, cache)
    verify(folder, name)
    return folder


@contextmanager
def _damage_explained(name: str, folder: Path) -> Iterator[None]:
    """Turn a failure to read what was pulled into one that says what to do."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: the pulled weights of {name!r} are damaged ({str(error).splitlines()[0]}). "
            f"Delete that folder, then run: netllm backbone pull {name}"
        ) from error


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn transformers' failure to find ``name`` into one that says what to do."""
    if not Path(name).is_dir() and "Did you mean" in (hint := nearest(name, cutoff=0.8)):
        raise ValueError(f"Unknown backbone {name!r}. {hint}")
    try:
        yield
    except RuntimeError as error:
        raise ValueError(
            f"{name}: the weights must fit config.json, but transformers cannot load them: "
            f"{error!s:.200} Take all files from one model."
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise FileNotFoundError(
            f"Backbone {name!r} must be a known name, a folder written by transformers or a model "
            f"id that the hub serves. transformers says: {str(error).splitlines()[0]:.300} "
            f"{nearest(name)} Offline, give a folder or run: netllm backbone pull NAME"
        ) from error
