"""What every adapted model is: an encoder, a frozen backbone with low-rank matrices, a head."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from netllm_adapt.attention import check_attention, check_positions, run_backbone
from netllm_adapt.backbone import embedding_width
from netllm_adapt.checkpoint.config import BackboneSpec, DataIdentity
from netllm_adapt.device import resolve_device
from netllm_adapt.llama.training import lean_training, uncovered_training
from netllm_adapt.lora import adapters, mixes


class BackboneInput(NamedTuple):
    """Rows of tokens that pass through a backbone, and what is read of them afterwards."""

    tokens: Float[Tensor, "row token width"]
    mask: Bool[Tensor, "#row 1 token key"]
    """Who may attend whom."""
    position: Int[Tensor, "#row token"]
    """-1 of padding, which is at the end of a row."""
    read: Callable[[Tensor], Any]
    """What the head is given of the hidden states of the `wanted` tokens, (row, token, width)."""
    wanted: Int[Tensor, "token"] | None = None
    """Tokens of every row whose hidden states are read; all if None."""
    cache: Any = None
    """Holds the keys and values of earlier tokens, and takes those of these, as a `Ring` does."""

    def read_of(self, hidden: Float[Tensor, "row token width"]) -> Any:
        """What the head is given of the hidden states of all tokens."""
        return self.read(hidden if self.wanted is None else hidden[:, self.wanted])

    def through(self, backbone: nn.Module) -> Any:
        """What the head reads, after a pass of these rows alone.

        To learn, it is the lean training pass where that covers the backbone.

        Raises:
            ValueError: if a row is longer than the backbone's learned positions, or its attention
            takes no mask.
        """
        check_positions(backbone, self.tokens.shape[1])
        if uncovered_training(backbone) is None:
            hidden = lean_training(backbone, self.tokens, self.mask, self.wanted)
            if hidden is not None:
                return self.read(hidden)
        return self.read_of(
            run_backbone(backbone, self.tokens, self.mask, self.position, self.cache)
        )


class Adapted(nn.Module, ABC):
    """The three parts of an adapted model, and what is known of it.

    Args:
        backbone: a causal language model without LM head, with adapter (`add_lora`).
        encoder: observations to tokens of the backbone's width.
        head: hidden states to answers.
        spec: where the backbone came from; goes into the checkpoint.
        state: what the model needs to decide, beside its weights, as JSON can hold it.
        about: what a reader wants to know (task, setting, seed, metrics); goes into its card.
        identity: digests of the data that it knows.

    Raises:
        ValueError: if the encoder's or the head's width is not the backbone's, or the backbone is
            of a kind that cannot follow a mask and positions.
    """

    fields: tuple[str, ...] = ("state", "about", "identity")
    """What a checkpoint holds beside the parts: attributes, and arguments of the class."""

    kind: ClassVar[str]
    """What a checkpoint calls a model of this class: `decisions` or `predictions`."""

    classes: ClassVar[dict[str, type[Adapted]]] = {}
    """The class of each kind."""

    adapter: str | None = None
    """Which of its backbone's adapters is its own; the active one if None."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in vars(cls):
            Adapted.classes[cls.kind] = cls

    def __init__(
        self,
        *,
        backbone: nn.Module,
        encoder: nn.Module,
        head: nn.Module,
        spec: BackboneSpec,
        state: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
        identity: DataIdentity | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder: Any = encoder
        self.head: Any = head
        self.spec = spec
        self.state = dict(state or {})
        self.about = dict(about or {})
        self.identity = identity or DataIdentity()
        self.attached: dict[str, Path] = {}
        """Other safetensors files that its checkpoint carries along, by their names there."""
        check_attention(backbone)
        self._check_widths()

    def _check_widths(self) -> None:
        width = embedding_width(self.backbone)
        for part, name in ((self.encoder, "encoder"), (self.head, "head")):
            got = part.config().get("width", width)
            if got != width:
                raise ValueError(
                    f"The {name} must have the backbone's width {width}, got {got}. "
                    f"Was it built for another backbone than {self.spec.name!r}?"
                )

    @property
    def dtype(self) -> torch.dtype:
        """The backbone's type; encoder and head compute in float32."""
        # The low-rank matrices are float32, whatever the type of what they adapt. The first frozen
        # weight is the token embedding: a stream asks at every decision.
        return next(p.dtype for p in self.backbone.parameters() if not p.requires_grad)

    @property
    def device(self) -> torch.device:
        """Where the backbone lies."""
        return next(self.backbone.parameters()).device

    @property
    def shares_backbone(self) -> bool:
        """Whether its backbone's active adapter is another model's, as in `Together`."""
        backbone: Any = self.backbone
        return self.adapter is not None and backbone.active_adapters != [self.adapter]

    def own_adapter(self, rows: int) -> AbstractContextManager[None]:
        """A context in which the backbone's next batch, of so many rows, has this model's adapter.

        It changes nothing where that is the active one, or where rows mix `adapters` already.
        """
        if not self.shares_backbone or mixes(self.backbone):
            return nullcontext()
        return adapters(self.backbone, [str(self.adapter)] * rows)

    def pass_through(self, given: BackboneInput, lean: Callable[..., Tensor] | None = None) -> Any:
        """What the head reads, after a pass of these rows with the model's own adapter.

        Args:
            given: the rows.
            lean: the pass to take, with the adapter that it was made with; the backbone's own
                modules, or the lean training pass, if None.
        """
        if lean is not None:
            return given.read_of(lean(given.tokens, given.mask, given.position, given.cache))
        with self.own_adapter(len(given.tokens)):
            return given.through(self.backbone)

    @abstractmethod
    def rows(self, experience: Any) -> Any:
        """What is learned of a pool or of examples, row by row, as `fit` takes it."""

    @abstractmethod
    def backbone_input(self, batch: Any) -> BackboneInput:
        """The tokens of a batch, as they pass through the backbone."""

    @abstractmethod
    def blank_input(self, rows: int, tokens: int) -> BackboneInput:
        """Zeros in place of the tokens of so many rows, each at least so long, for planning."""

    @abstractmethod
    def longest_row(self, steps: int | None = None) -> int:
        """Tokens of the longest row it may learn from, of episodes of so many steps at most."""

    def hidden(self, batch: Any) -> Any:
        """What the head reads of a batch, after one pass through the backbone."""
        return self.pass_through(self.backbone_input(batch))

    def loss(self, hidden: Any, batch: Any) -> Tensor:
        """The loss of each answer, from what the head reads."""
        loss: Tensor = self.head.loss(hidden, batch.observations, batch.labels)
        if loss.shape != batch.learn.shape:
            raise ValueError(
                f"{type(self.head).__name__}.loss must give one loss per answer, "
                f"{tuple(batch.learn.shape)}, got {tuple(loss.shape)}."
            )
        return loss

    def forward(self, batch: Any) -> Tensor:
        """The loss of each answer of a batch."""
        return self.loss(self.hidden(batch), batch)

    def save_pretrained(self, folder: str | Path, *, merged: bool = False) -> Path:
        """Write the checkpoint folder; see `checkpoint.save_and_load`."""
        from netllm_adapt.checkpoint.save_and_load import save

        return save(self, Path(folder), merged=merged)

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool | None = None,
        commit_message: str = "Add a checkpoint of netllm-adapt",
        merged: bool = False,
    ) -> str:
        """The address of the hub's model that its checkpoint is pushed to; see `hub.push`.

        This is no `ModelHubMixin`, which would write a config.json of its own and loads by other
        arguments than `from_pretrained` has.
        """
        from netllm_adapt.checkpoint.hub import push

        with tempfile.TemporaryDirectory() as work:
            folder = self.save_pretrained(Path(work) / "checkpoint", merged=merged)
            return push(folder, repo, private=private, commit_message=commit_message)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        dtype: str | None = None,
        trainable: bool = False,
        device: str | torch.device = "cpu",
        parts: Sequence[type[nn.Module]] = (),
        trust_backbone: bool = False,
        revision: str | None = None,
        frozen: nn.Module | None = None,
    ) -> Self:
        """Read a checkpoint folder, or one of the hub; see `checkpoint.save_and_load`.

        Args:
            folder: its path; or `owner/name`, a model on the hub, if no folder is called so here.
            dtype: see `load`.
            trainable: see `load`.
            device: where the model goes.
            parts: see `load`.
            trust_backbone: see `load`; a name on the hub is none for its backbone's.
            revision: a branch, tag or commit of the hub's model; its main branch if None.
            frozen: see `load`.

        Raises:
            ValueError: if it holds another kind of model, or no whole one, or `device` is not here.
            FileNotFoundError: if the name is neither a folder's nor a model's on the hub.
            ConnectionError: if the hub cannot be reached, and the model was not fetched before.
        """
        from netllm_adapt.checkpoint.hub import folder_of
        from netllm_adapt.checkpoint.save_and_load import load

        where = resolve_device(device)
        model: Any = load(
            folder_of(folder, revision=revision),
            Adapted.classes,
            dtype=dtype,
            trainable=trainable,
            parts=parts,
            trust_backbone=trust_backbone,
            frozen=frozen,
        ).to(where)
        if not isinstance(model, cls):
            raise ValueError(f"{folder} must hold {cls.__name__}, got {type(model).__name__}.")
        return model
