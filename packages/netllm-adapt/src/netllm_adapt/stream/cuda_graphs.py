"""The passes of decisions as CUDA graphs: one launch in place of hundreds.

A decision sends few tokens through many layers, and a GPU then waits for Python, which launches
every kernel by itself. A graph holds them all. It also holds the addresses of what they read and
write: so a pass has one for every shape, whose inputs are copied to where it reads them, and all
are forgotten when the ring of keys and values has moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from netllm_adapt.attention import run_backbone
from netllm_adapt.device import switched
from netllm_adapt.stream.key_value_ring import Ring

SWITCH = "NETLLM_CUDA_GRAPHS"
"""The environment variable that asks for graphs, by the value 1."""
OFTEN = 8
"""Passes of a shape before it is recorded: a ring still grows in the first steps of an episode."""
MOST = 32
"""Shapes that are recorded; each takes memory."""

Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Records what a function without arguments computes: what repeats it, and where its result is."""


def recorder(device: torch.device) -> Record | None:
    """What records passes on a device; None where nobody asked for graphs, or it has none."""
    return on_gpu if switched(SWITCH, default=False) and device.type == "cuda" else None


def on_gpu(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A CUDA graph of what `run` computes: its replay, and its result, which replays overwrite.

    Raises:
        RuntimeError: if a kernel waits for the CPU, or memory runs out.
    """
    here, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(here)
    with torch.cuda.stream(side):
        run()  # what libraries prepare at their first call cannot be recorded
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = run()
    except RuntimeError as error:
        raise RuntimeError(
            f"A decision could not be recorded as a CUDA graph: {error}. Decide without graphs: "
            f"unset the environment variable {SWITCH}."
        ) from error
    return graph.replay, result


class GraphedPass:
    """Tokens to hidden states by a backbone's own modules, recorded once a shape has come often.

    It stands in for a `LeanPass`. Weights may change in place; adapters must stay those that were
    active.

    Args:
        backbone: in eval mode.
        record: see `Record`.
    """

    def __init__(self, backbone: nn.Module, record: Record) -> None:
        self._backbone, self._record = backbone, record
        self._forget(version=-1)

    def _forget(self, *, version: int) -> None:
        self._version = version
        self._passes: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, _Recorded] = {}

    @torch.inference_mode()
    def __call__(
        self,
        tokens: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "batch 1 token slot"],
        position: Int[Tensor, "batch token"],
        cache: Ring,
    ) -> Float[Tensor, "batch token width"]:
        """Hidden states, once `cache` has admitted the tokens; see `LeanPass`."""
        if cache.version != self._version:
            self._forget(version=cache.version)
        shape = (*tokens.shape, isinstance(cache.rows, Tensor))
        self._passes[shape] += 1
        known = self._recorded.get(shape)
        if known is None and (self._passes[shape] < OFTEN or len(self._recorded) == MOST):
            return run_backbone(self._backbone, tokens, mask, position, cache)
        if known is None:
            inputs = (tokens, mask, position)
            known = self._recorded[shape] = _Recorded(self._backbone, inputs, cache, self._record)
        return known(tokens, mask, position, cache)


class _Recorded:
    """One pass with the memory that it reads from and writes to."""

    def __init__(
        self,
        backbone: nn.Module,
        inputs: tuple[Tensor, Tensor, Tensor],
        ring: Ring,
        record: Record,
    ) -> None:
        self._inputs = tokens, mask, position = [torch.empty_like(given) for given in inputs]
        self._places = tuple(torch.empty_like(place) for place in _places(ring))
        self._copy(inputs, ring)
        given = ring.target, ring.rows
        ring.target, *rows = self._places
        ring.rows = rows[0] if rows else slice(None)
        try:
            self._replay, self._hidden = record(
                lambda: run_backbone(backbone, tokens, mask, position, ring)
            )
        finally:
            ring.target, ring.rows = given

    def _copy(self, inputs: tuple[Tensor, Tensor, Tensor], ring: Ring) -> None:
        given = (*inputs, *_places(ring))
        for own, value in zip((*self._inputs, *self._places), given, strict=True):
            own.copy_(value)

    def __call__(self, tokens: Tensor, mask: Tensor, position: Tensor, ring: Ring) -> Tensor:
        self._copy((tokens, mask, position), ring)
        self._replay()
        return self._hidden.clone()


def _places(ring: Ring) -> tuple[Tensor, ...]:
    """Where the coming pass writes: its slots and, unless it is all of them, its rows."""
    return tuple(place for place in (ring.target, ring.rows) if isinstance(place, Tensor))
