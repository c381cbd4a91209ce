"""Several tasks' models over one frozen backbone: their rows pass through it in one batch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netllm_adapt.backbone import is_scratch
from netllm_adapt.lora import active_adapter, adapters, load_lora, save_lora
from netllm_adapt.model.base import Adapted, BackboneInput


class Together(nn.Module):
    """Adapted models that share their frozen backbone; every row uses its own task's adapter.

    The models become parts of this one: their adapters move to the backbone of the first. One that
    is asked directly, or saved, still uses its own adapter.

    Args:
        models: By name, each adapted from the same backbone.

    Raises:
        ValueError: If the backbones differ, or one was trained whole.

    Source: DESIGN, "one LLM, all tasks"; serving many adapters in one batch is S-LoRA's (Sheng et
    al., MLSys 2024).
    """

    def __init__(self, models: Mapping[str, Adapted]) -> None:
        super().__init__()
        self._check(models)
        first, *others = models
        self.models: Any = nn.ModuleDict(models)
        shared: Any = models[first].backbone
        self.backbone = shared
        models[first].adapter = models[first].adapter or active_adapter(shared)
        for name in others:
            model = models[name]
            own: Any = model.backbone
            with tempfile.TemporaryDirectory() as folder:
                save_lora(own, folder, name=model.adapter)
                load_lora(shared, folder, trainable=True, name=name)
            model.backbone, model.adapter = shared, name

    def _check(self, models: Mapping[str, Adapted]) -> None:
        if not models:
            raise ValueError("`models` must hold at least one adapted model, got none.")
        specs = {name: model.spec for name, model in models.items()}
        (first, spec), *others = specs.items()
        for name, other in others:
            if other != spec:
                raise ValueError(
                    f"Models must share one frozen backbone, but {first!r} was adapted from {spec} "
                    f"and {name!r} from {other}. Adapt them with the same backbone and `layers`."
                )
        if is_scratch(spec.name):
            raise ValueError(f"{first!r} has no frozen backbone: {spec.name!r} is trained whole.")

    def pass_through(self, given: Mapping[str, BackboneInput]) -> dict[str, Any]:
        """What each model's head reads, after one pass of all rows."""
        parts = [*given.values()]
        names = [self.models[name].adapter for name, part in given.items() for _ in part.tokens]
        with adapters(self.backbone, names):
            hidden: Tensor = _joined(parts).through(self.backbone)
        rows = hidden.split([len(part.tokens) for part in parts])
        return {
            name: part.read_of(own[:, : part.tokens.shape[1]])
            for own, (name, part) in zip(rows, given.items(), strict=True)
        }

    def hidden(self, batches: Mapping[str, Any]) -> dict[str, Any]:
        """What each model's `hidden` gives for its batch, from one pass of all rows.

        Raises:
            ValueError: if there is no batch, or a name is none of the models'.
        """
        check_names(batches, self.models, "`batches`")
        return self.pass_through(
            {name: self.models[name].backbone_input(batch) for name, batch in batches.items()}
        )

    def forward(self, batches: Mapping[str, Any]) -> dict[str, Tensor]:
        """Each model's losses of its batch."""
        hidden = self.hidden(batches)
        return {
            name: self.models[name].loss(hidden[name], batch) for name, batch in batches.items()
        }


def check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise unless there are names, all of them known."""
    names, known = [*names], [*known]
    if not names or not {*names} <= {*known}:
        raise ValueError(f"{what} must name at least one of {known}, and no other, got {names}.")


def _joined(parts: Sequence[BackboneInput]) -> BackboneInput:
    """The rows of all parts, filled up to the longest with padding that sees itself alone."""
    tokens = _padded(part.tokens for part in parts)
    position = _padded((part.position.expand(len(part.tokens), -1) for part in parts), filler=-1)
    length, keys = tokens.shape[1], max(part.mask.shape[3] for part in parts)
    masks = []
    for part in parts:
        alone = torch.eye(length, keys, dtype=torch.bool, device=tokens.device)
        mask = alone.repeat(len(part.tokens), 1, 1, 1)
        mask[:, :, : part.mask.shape[2], : part.mask.shape[3]] = part.mask
        masks.append(mask)
    cache = _Caches(parts, keys) if any(part.cache is not None for part in parts) else None
    return BackboneInput(tokens, torch.cat(masks), position, lambda hidden: hidden, cache=cache)


def _padded(parts: Iterable[Tensor], filler: float = 0) -> Tensor:
    """The rows of all parts as one batch, each filled up at its end to the longest."""
    rows = [row for part in parts for row in part]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler)


class _Caches:
    """The caches of several parts, as one of the rows that pass together."""

    is_compileable = False

    def __init__(self, parts: Sequence[BackboneInput], keys: int) -> None:
        self._parts = parts
        self._keys = keys

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """All keys and values of one layer, once the new ones are in their own caches."""
        start, joined = 0, []
        for part in self._parts:
            rows, count = slice(start, start + len(part.tokens)), part.tokens.shape[1]
            new = keys[rows, :, :count], values[rows, :, :count]
            seen = new if part.cache is None else part.cache.update(*new, layer_idx)
            joined.append([F.pad(one, (0, 0, 0, self._keys - one.shape[2])) for one in seen])
            start = rows.stop
        all_keys, all_values = (torch.cat(own) for own in zip(*joined, strict=True))
        return all_keys, all_values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens are held at most; part of what backbones expect of a cache."""
        return max(
            part.cache.get_seq_length(layer_idx) for part in self._parts if part.cache is not None
        )
