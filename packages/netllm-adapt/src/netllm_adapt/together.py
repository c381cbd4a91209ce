"""Several tasks' models over one frozen backbone: their rows pass through it in one batch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netllm_adapt.adapted import Adapted, Rows
from netllm_adapt.attention import Ring, cache_argument
from netllm_adapt.backbone import is_scratch
from netllm_adapt.lora import active_adapter, adapters, load_lora, save_lora
from netllm_adapt.stream import DecisionStream, Feed


class Together(nn.Module):
    """Adapted models that share their frozen backbone; every row uses its own task's adapter.

    The models become parts of this one: their adapters move to the backbone of the first. Ask
    them through this class only; `save_pretrained` of each writes its own adapter.

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

    def route(self, rows: Mapping[str, int]) -> AbstractContextManager[None]:
        """A context in which the backbone's next batch has so many rows of each model, in order."""
        names = [self.models[name].adapter for name, count in rows.items() for _ in range(count)]
        return adapters(self.backbone, names)

    def hidden(self, batches: Mapping[str, Any]) -> dict[str, Any]:
        """What each model's `hidden` gives for its batch, from one pass of all rows."""
        parts = {name: self.models[name].rows(batch) for name, batch in batches.items()}
        longest = max(part.tokens.shape[1] for part in parts.values())
        joined = Rows(
            torch.cat(
                [F.pad(p.tokens, (0, 0, 0, longest - p.tokens.shape[1])) for p in parts.values()]
            ),
            torch.cat([_padded(part, longest) for part in parts.values()]),
            lambda hidden: hidden,
        )
        with self.route({name: len(part.tokens) for name, part in parts.items()}):
            hidden: Tensor = joined.through(self.backbone)
        read, start = {}, 0
        for name, part in parts.items():
            rows, count, _ = part.tokens.shape
            read[name] = part.read(hidden[start : start + rows, :count])
            start += rows
        return read

    def forward(self, batches: Mapping[str, Any]) -> dict[str, Tensor]:
        """Each model's losses of its batch."""
        hidden = self.hidden(batches)
        return {
            name: self.models[name].loss(hidden[name], batch) for name, batch in batches.items()
        }


class TogetherStream:
    """Decide for episodes of several tasks that run side by side, in one pass a step.

    Each task's decisions are those of a `DecisionStream` of its own; see there for the arguments
    of a question.

    Args:
        together: models that decide step after step, in eval mode.
        batch: number of episodes of each.
    """

    def __init__(self, together: Together, *, batch: Mapping[str, int]) -> None:
        self._together = together
        self._streams = {
            name: DecisionStream(together.models[name], batch=count, lean=False)
            for name, count in batch.items()
        }

    @torch.inference_mode()
    def decide(
        self, questions: Mapping[str, tuple[Mapping[str, Any], Tensor, Tensor | None]]
    ) -> dict[str, Tensor]:
        """The next answers of every task that is asked.

        Args:
            questions: by name observation, return-to-go and previous action.
        """
        feeds = {name: self._streams[name].feed(*asked) for name, asked in questions.items()}
        cache = _Joined([(self._streams[name].ring, feed) for name, feed in feeds.items()])
        count = max(feed.tokens.shape[1] for feed in feeds.values())
        position = [F.pad(f.position, (0, count - f.position.shape[1])) for f in feeds.values()]
        tokens = [F.pad(f.tokens, (0, 0, 0, count - f.tokens.shape[1])) for f in feeds.values()]
        backbone = self._together.backbone
        with self._together.route({name: len(feed.tokens) for name, feed in feeds.items()}):
            hidden = backbone(
                inputs_embeds=torch.cat(tokens),
                attention_mask=cache.mask(count),
                position_ids=torch.cat(position).clamp(min=0),
                use_cache=True,
                **{cache_argument(backbone): cache},
            ).last_hidden_state
        rows = hidden.split([len(feed.tokens) for feed in feeds.values()])
        return {
            name: self._streams[name].answer(own, feed)
            for own, (name, feed) in zip(rows, feeds.items(), strict=True)
        }


class _Joined:
    """The rings of several streams, as one cache of the rows that pass together."""

    is_compileable = False

    def __init__(self, parts: list[tuple[Ring, Feed]]) -> None:
        self._parts = parts
        self._slots = max(ring.slots for ring, _ in parts)

    def mask(self, count: int) -> Tensor:
        """Who sees which slot; padding sees slot 0, which nobody else does."""
        masks = []
        for ring, feed in self._parts:
            more = (0, self._slots - ring.slots, 0, count - feed.mask.shape[2])
            mask = F.pad(feed.mask, more)
            mask[:, :, feed.mask.shape[2] :, 0] = True
            masks.append(mask)
        return torch.cat(masks)

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values into their streams' rings."""
        start, both = 0, []
        for ring, feed in self._parts:
            rows = slice(start, start + len(feed.tokens))
            count = feed.tokens.shape[1]
            kept = ring.update(keys[rows, :, :count], values[rows, :, :count], layer_idx)
            both.append([F.pad(part, (0, 0, 0, self._slots - ring.slots)) for part in kept])
            start = rows.stop
        joined_keys, joined_values = (torch.cat(parts) for parts in zip(*both, strict=True))
        return joined_keys, joined_values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens are held."""
        return max(ring.get_seq_length(layer_idx) for ring, _ in self._parts)


def _padded(part: Rows, length: int) -> Tensor:
    """The mask for longer rows; padding sees itself, for nothing at all would be undefined."""
    rows, count, _ = part.tokens.shape
    mask = torch.eye(length, dtype=torch.bool, device=part.mask.device).repeat(rows, 1, 1, 1)
    mask[:, :, :count, :count] = part.mask
    return mask
