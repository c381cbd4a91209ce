"""Loads a frozen backbone by name, folder or model id."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from netllm_adapt.backbone.cache import check
from netllm_adapt.backbone.catalogue import find, nearest
from netllm_adapt.backbone.quantise import (
    check_quantise,
    quantisation,
    reload_quantised,
    same_in_both_modes,
)
from netllm_adapt.backbone.quiet_transformers import quiet
from netllm_adapt.backbone.scratch import is_scratch, scratch
from netllm_adapt.backbone.trust import FILES, RANDOM, check_names, trusted_config
from netllm_adapt.files.reading import first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_BLOCK = re.compile(r"(^|\.)(\d+)\.")
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

    Raises:
        FileNotFoundError: If a known backbone was not pulled (nothing is downloaded here), or the
            id is neither a folder nor a model that transformers can reach.
        ValueError: If the name is close to a known one, files are damaged or no model's, ``layers``
            is outside the model's range, ``dtype`` or ``quantise`` is unknown or does not fit, or
            bitsandbytes is too old.
        ModuleNotFoundError: If ``quantise`` is given, and bitsandbytes is missing.
    """
    if dtype not in (*DTYPES, *DTYPES.values()):
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    kind = DTYPES[dtype] if isinstance(dtype, str) else dtype
    if is_scratch(name):
        if quantise is not None:
            raise ValueError(f"`quantise` must be None for {name!r}: its weights are trained.")
        return scratch(name, dtype=kind, seed=seed).eval()
    if quantise is not None:
        check_quantise(quantise, kind)
    model = _whole(name, kind, seed, quantise, layers)
    if layers is not None:
        keep_blocks(model, layers)
    if quantise is not None:
        if not getattr(model, "is_quantized", False):
            with quiet():
                model = reload_quantised(model, quantise, kind)
        same_in_both_modes(model)
    # PEFT writes it into the adapter; a path of this machine must not leak.
    model.name_or_path = name
    return model.requires_grad_(False).eval()


def empty_backbone(
    name: str,
    *,
    layers: int | None = None,
    dtype: str | torch.dtype = "bfloat16",
    seed: int = 0,
    quantise: str | None = None,
) -> "PreTrainedModel":
    """What ``load_backbone`` would give for the same arguments, without memory for its weights.

    It lies on torch's meta device and is made of its configuration alone: of a folder
    ``config.json`` is enough, whose own path will do, and of a model on the hub that file is
    fetched. Linear layers that would be quantised are ``Packed``, which PEFT's own layers adapt, as
    they adapt bitsandbytes'.
    """
    from transformers import AutoModel

    kind = DTYPES[dtype] if isinstance(dtype, str) else dtype
    with torch.device("meta"), quiet():
        if is_scratch(name):
            return scratch(name, dtype=kind, seed=seed).eval()
        model = AutoModel.from_config(_config(name), dtype=kind, trust_remote_code=False)
    if layers is not None:
        keep_blocks(model, layers)
    for layer in model.modules():
        if quantise is not None and type(layer) is nn.Linear:
            layer.__class__ = Packed
    return model.requires_grad_(False).eval()


class Packed(nn.Linear):
    """A linear layer that would be quantised."""


def draws(name: str) -> bool:
    """Whether a backbone's weights are drawn at random, and not read from files."""
    known = find(name)
    return name.startswith(RANDOM) or (known is not None and known.weights is None)


def _config(name: str) -> "PretrainedConfig":
    """The configuration of a backbone, without its weights."""
    base = name.removeprefix(RANDOM)
    if (known := find(base)) is not None:
        return config_of(known.config)
    path = Path(base)
    given = str(path.parent) if path.name == "config.json" else base
    return trusted_config(_folder_of(given, ("config.json",)), weights=False)


def embedding_width(backbone: nn.Module) -> int:
    """The width of `inputs_embeds`: the hidden size, or OPT's smaller `word_embed_proj_dim`."""
    config: Any = backbone.config
    return int(getattr(config, "word_embed_proj_dim", config.hidden_size))


def load_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a backbone, for work on text; ``random-NAME`` has that of ``NAME``.

    Raises:
        FileNotFoundError: If the backbone is not cached, has no tokenizer or cannot be reached.
        ValueError: If its files are damaged, or name code.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    name = name.removeprefix(RANDOM)
    known = find(name)
    if known is not None and known.weights is None:
        raise FileNotFoundError(f"Backbone {name!r} has random weights and so no tokenizer.")
    folder = check(name) if known else _folder_of(name, FILES)
    check_names(folder)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except ValueError:  # pulled with transformers 5, whose class transformers 4 does not know
        if known is None:
            raise
        return PreTrainedTokenizerFast.from_pretrained(folder)


def config_of(values: Mapping[str, Any]) -> "PretrainedConfig":
    """The transformers configuration of a ``Backbone.config``."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**values)


def load_folder(
    folder: Path, dtype: torch.dtype, *, layers: int | None = None, **options: Any
) -> "PreTrainedModel":
    """The model of a folder that transformers wrote, without its LM head; nothing of it is run.

    Args:
        folder: with weights as safetensors, in one file or several.
        dtype: of the weights.
        layers: how many of its first blocks are loaded; all if None.
        options: more of ``from_pretrained``, such as a configuration in place of the folder's.

    Raises:
        ValueError: naming the folder or file, if it asks for code or another model, lacks weights
            or holds others than its configuration says.
    """
    if not [*folder.glob("*.safetensors")]:
        raise ValueError(
            f"{folder / 'model.safetensors'}: must be a whole model's weights, but there are none "
            "as safetensors, and other kinds can run code. Where you trust them, load and save "
            "them with transformers."
        )
    if "config" not in options:
        options["config"] = trusted_config(folder, weights=True)
    whole = options["config"].num_hidden_layers
    if layers is not None:
        _cut(options["config"], layers)
    try:
        model, report = _headless(folder, dtype=dtype, **options)
    except (OSError, RuntimeError, TypeError, KeyError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: the weights must fit config.json, but transformers cannot load them: "
            f"{first_line(error):.300}. Take all files from one model."
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{folder} must hold every weight of its model, it lacks {len(missing)}, first "
            f"{missing[0]}. Copy or pull it again."
        )
    dropped = range(whole)[layers:] if layers is not None else ()
    blocks = {name: _BLOCK.search(name) for name in report["unexpected_keys"]}
    if beyond := sorted(n for n, block in blocks.items() if block and int(block[2]) not in dropped):
        raise ValueError(
            f"{folder}: config.json must describe all blocks that the weights hold, but not "
            f"{beyond[0]}. To keep the first blocks only, ask for so many layers."
        )
    return model


def _headless(folder: Path, **options: Any) -> tuple["PreTrainedModel", dict[str, Any]]:
    """The model without its LM head, and what transformers says of its weights.

    It fills what it misses with random numbers. Before version 5 that happens to whole Gemma 3
    checkpoints saved with their head, so these are loaded with it.
    """
    from transformers import AutoModel, AutoModelForCausalLM

    bare: Any = AutoModel
    with_head: Any = AutoModelForCausalLM
    options |= {"output_loading_info": True, "local_files_only": True}
    options |= {"trust_remote_code": False, "use_safetensors": True}
    with quiet():
        model, report = bare.from_pretrained(str(folder), **options)
        if report["missing_keys"]:
            whole, report = with_head.from_pretrained(str(folder), **options)
            model = whole.get_decoder()
    return model, report


def _whole(
    name: str, dtype: torch.dtype, seed: int, quantise: str | None, layers: int | None
) -> "PreTrainedModel":
    """A backbone; of random weights all blocks, not quantised yet, of files those asked for."""
    base = name.removeprefix(RANDOM)
    known = find(base)
    config = config_of(known.config) if known else None
    if draws(name):
        if config is None:
            folder = _folder_of(base, ("config.json",))
            config = trusted_config(folder, weights=bool([*folder.glob("*.safetensors")]))
        return _random(config, dtype, seed)
    options = {} if quantise is None else quantisation(quantise, dtype)
    if config is None:
        return load_folder(_folder_of(name, FILES), dtype, layers=layers, **options)
    return load_folder(check(name), dtype, layers=layers, config=config, **options)


def _random(config: "PretrainedConfig", dtype: torch.dtype, seed: int) -> "PreTrainedModel":
    """A model from transformers' own initialisation, drawn in fp32 so that all dtypes agree."""
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(config, dtype=torch.float32).to(dtype)


def _folder_of(name: str, files: Sequence[str]) -> Path:
    """The folder of a model that is not in the catalogue: given as one, or fetched from the hub."""
    from huggingface_hub import snapshot_download

    given = Path(name).is_dir()
    if not given and "Did you mean" in (hint := nearest(name, cutoff=0.8)):
        raise ValueError(f"Unknown backbone {name!r}. {hint}")
    try:
        folder = Path(name if given else snapshot_download(name, allow_patterns=list(files)))
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} has no config.json.")
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"Backbone {name!r} must be a known name, a folder written by transformers or a model "
            f"id that the hub serves, but: {first_line(error):.300}. {nearest(name)} "
            "Offline, give a folder or run: netllm backbone pull NAME"
        ) from error
    return folder


def blocks(model: Any) -> nn.ModuleList:
    """The blocks of a backbone.

    Raises:
        ValueError: if it keeps them in another way than its kin.
    """
    whole = model.config.num_hidden_layers
    lists = [one for one in model.modules() if isinstance(one, nn.ModuleList) and len(one) == whole]
    if not lists:
        raise ValueError(
            f"The blocks of a backbone must be a ModuleList of {whole}, {type(model).__name__} has "
            "none. It can be taken only with all its layers, and whole."
        )
    return lists[0]


def keep_blocks(model: Any, count: int) -> None:
    """Drop all but the first ``count`` blocks, in the model and in its configuration."""
    kept = blocks(model)
    _cut(model.config, count)
    del kept[count:]


def _cut(config: "PretrainedConfig", count: int) -> None:
    """Let a configuration describe the first ``count`` blocks alone."""
    whole = config.num_hidden_layers
    if not 1 <= count <= whole:
        raise ValueError(
            f"`layers` must be from 1 to {whole}, the blocks of this backbone, got {count}."
        )
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
