"""Run by `torchrun`, two processes: backbones before and after `shard`, as one line of JSON."""

import json
import sys

import torch
from adapt_parts import linear_model
from netllm_adapt.batches import collate, plan
from netllm_adapt.training.processes import joined_processes
from netllm_adapt.training.sharding import shard, whole
from netllm_adapt.training.trainable_parameters import trained
from torch import distributed
from torch.distributed.tensor import DTensor
from training_parts import EPISODES


def learned(model, batch):
    """The loss, and the gradient of every trained parameter."""
    model.zero_grad()
    loss = model(batch).sum()
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in trained(model).items()}


def told(architecture):
    model = linear_model(architecture)
    sizes = [model.sizes(episode) for episode in EPISODES[:2]]
    batch = collate(EPISODES[:2], plan(sizes, segment=24, window=4))
    loss, gradients = learned(model, batch)
    names = trained(model)
    frozen = {n: p.numel() for n, p in model.named_parameters() if n not in names}
    shard(model.backbone)
    again, found = learned(model, batch)
    own = {n: p for n, p in model.named_parameters() if n in frozen}
    parts = {n: p.to_local().numel() for n, p in own.items() if isinstance(p, DTensor)}
    with whole(model.backbone), torch.no_grad():
        inside = float(model(batch).sum())
        halves = sum(isinstance(p, DTensor) for p in model.parameters())
    return {
        "losses": [loss, again, inside],
        "furthest": max(float((found[n] - g).abs().max()) for n, g in gradients.items()),
        "share": sum(parts.values()) / sum(frozen.values()),
        "whole": sorted(frozen.keys() - parts.keys()),
        "trained": [type(p).__name__ for p in trained(model).values()],
        "sharded inside": halves,
        "sharded after": sum(isinstance(p, DTensor) for p in model.parameters()) == len(parts),
    }


joined_processes("cpu")
answer = {architecture: told(architecture) for architecture in sys.argv[1:]}
every = [None] * distributed.get_world_size()
distributed.all_gather_object(every, answer)
if distributed.get_rank() == 0:
    print("told:", json.dumps(every))
distributed.destroy_process_group()
