"""Frozen weights that lie in parts in the processes that share a run: FSDP2, torch's `fully_shard`.

What is trained is a hundredth of the model and stays whole in every process. Of each block of the
backbone, and of its token embedding, a process keeps one part; the parts come together while the
block computes, and for its gradients once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from netllm_adapt.backbone.load import blocks
from netllm_adapt.llama.packed_weights import plain_of


def check_shardable(backbone: nn.Module, name: str) -> None:
    """Raise unless the frozen weights of a backbone, of this name, can be kept in parts.

    Raises:
        ValueError: with the reason.
    """
    plain: Any = plain_of(backbone)
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        reason = "one process has nobody to share them with; begin with torchrun"
    elif all(weight.requires_grad for weight in plain.parameters()):
        reason = f"nothing of {name!r} is frozen"
    elif getattr(plain, "is_quantized", False):
        reason = "quantised weights lie whole on every device"
    else:
        return
    raise ValueError(f"`shard` must be False: {reason}.")


def shard(backbone: nn.Module) -> None:
    """Leave in this process its part of each frozen weight; all processes must call it.

    The parts are DTensors along the first axis. Only a pass through the backbone as a whole brings
    them together.

    Source: FSDP (Zhao et al., VLDB 2023), by torch's `fully_shard`.
    """
    plain: Any = plain_of(backbone)
    trained = {weight for weight in backbone.parameters() if weight.requires_grad}
    device = next(backbone.parameters()).device.type
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    for module in (*blocks(plain), plain.get_input_embeddings(), backbone):
        fully_shard(module, mesh=mesh, ignored_params=trained)


@contextmanager
def whole(backbone: nn.Module) -> Iterator[None]:
    """The backbone with whole weights in every process, for passes that are not made together."""
    sharded = [module for module in backbone.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()
            module.set_reshard_after_forward(True, recurse=False)
