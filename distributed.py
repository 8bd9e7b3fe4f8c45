"""Several processes train one model as one process would: torchrun starts them, each takes a share of every batch.

    torchrun --standalone --nproc_per_node=2 train.py config/minigrid_random.py     # CPU: gloo; --device=cuda: NCCL

`batch_size` stays that of the whole. Every process draws the whole batch and its masks, from the same seeds, and keeps
its rows: it then knows how many entries are predicted in all of them, and the gradients of the shares simply add up to
that of the whole. Process 0 alone evaluates, prints and writes. Without torchrun all of this does nothing.
Read next: train.py.
"""

import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from masks import expand

rank = int(os.environ.get("RANK", 0))
world_size = int(os.environ.get("WORLD_SIZE", 1))


def start(device):
    """Meet the other processes, each on a GPU of its own if the device is one; all but the first fall silent."""
    if world_size == 1:
        return
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if torch.device(device).type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(hours=12))  # the others wait while process 0 evaluates
    if rank > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")


def own_rows(batch):
    """This process's rows of a whole batch: of a tensor, or of each one in a dictionary."""
    if isinstance(batch, dict):
        return {name: own_rows(x) for name, x in batch.items()}
    return batch.chunk(world_size)[rank]


def own_weights(weights, predict, factors):
    """{factor: its weight x own share of the predicted entries}, with which losses of own rows add up to the batch's.

    weights: {factor: number}; predict: of the whole batch, (B, T, 3) or {factor: (B, T)}.
    """
    if world_size == 1:
        return weights
    predict = expand(predict, factors)
    share = {name: own_rows(mask).sum() / mask.sum().clamp(min=1) for name, mask in predict.items()}
    return {name: weight * share[name] for name, weight in weights.items()}


def add_up(network, value):
    """Sum the gradients of all processes, in place, and a scalar tensor, which is returned, in one exchange."""
    if world_size == 1:
        return value
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients] + [value.view(1)])
    try:
        dist.all_reduce(flat)
    except RuntimeError:  # it has said itself what went wrong, or it was stopped
        sys.exit(f"process {rank}: another process of this run has ended")
    for gradient, summed in zip(gradients, flat[:-1].split([g.numel() for g in gradients])):
        gradient.copy_(summed.view_as(gradient))
    return flat[-1]
