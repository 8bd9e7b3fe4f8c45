"""What several tests share: small models, windows of small data, and PyTorch's own layer with the same weights."""

import itertools
import math

import torch
import torch.nn as nn

import model as models
from model import ModelConfig

CONTEXT = 5
SMALL = dict(context=CONTEXT, n_layer=2, n_head=2, n_embd=16, n_ff=24, dropout=0.1, max_timestep=20)
CONFIGS = [
    dict(model="unimask", layout=layout, hidden=hidden, positions=positions, norm=norm)
    for layout, hidden, positions, norm in itertools.product(
        ("timestep", "factor", "entry"), ("flag", "zero"), ("sinusoidal", "learned", "timestep"), ("post", "pre")
    )
]
CONFIGS += [
    dict(model="dt", hidden=hidden, positions=positions, norm=norm)
    for hidden, positions, norm in itertools.product(
        ("flag", "zero"), ("sinusoidal", "learned", "timestep"), ("post", "pre")
    )
]
CONFIGS += [dict(model="nn", hidden="flag"), dict(model="nn", hidden="zero")]
CONFIGS += [dict(model=kind, octaves=3, differences=True, tanh_actions=True) for kind in ("unimask", "dt", "nn")]
CONFIGS += [dict(model="unimask", differences=True, layout="entry", hidden="zero")]
CONFIGS += [dict(model=kind, head=head) for kind in ("unimask", "dt", "nn") for head in ("gaussian", "median")]
FAMILIES = [dict(model="unimask", layout=layout) for layout in ("timestep", "factor", "entry")] + [
    dict(model="dt"),
    dict(model="nn"),
]


def name_of(config):
    return "-".join(map(str, config.values()))


def build(config, factors, seed=0):
    """A small model in eval mode whose outputs depend on every weight: no layer starts at zero."""
    torch.manual_seed(seed)
    return models.build(ModelConfig(**SMALL | config), factors).eval()


def windows(trajectories, T=CONTEXT, start=2):
    """{factor: (B, T)} of all trajectories from timestep `start`, and "timestep"."""
    values = {name: tensor[:, start : start + T] for name, tensor in trajectories.tensors().items()}
    return values | {"timestep": torch.arange(start, start + T).expand(len(trajectories), T)}


def identical(one, other):
    """Whether two dictionaries of outputs agree in every bit (and hold no NaN)."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def scrambled(values, keep, factors, number=math.nan, seed=0):
    """The same values wherever keep ({factor: (B, T)}) is true; elsewhere another class, or `number`."""
    generator, changed = torch.Generator().manual_seed(seed), dict(values)
    for f in factors:
        value = values[f.name]
        if f.kind == "categorical":
            other = (value + torch.randint(1, f.size, value.shape, generator=generator)) % f.size
            changed[f.name] = torch.where(keep[f.name], value, other)
        else:
            changed[f.name] = torch.where(keep[f.name][..., None], value, number)
    return changed


def torch_layer(block, config):
    """PyTorch's own transformer layer with the weights of one of our blocks."""
    d, nh, ff = config.n_embd, config.n_head, config.n_ff
    layer = nn.TransformerEncoderLayer(d, nh, ff, dropout=0.0, batch_first=True, norm_first=config.norm == "pre")
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": block.attention.qkv.weight,
            "self_attn.in_proj_bias": block.attention.qkv.bias,
            "self_attn.out_proj.weight": block.attention.proj.weight,
            "self_attn.out_proj.bias": block.attention.proj.bias,
            "linear1.weight": block.net[0].weight,
            "linear1.bias": block.net[0].bias,
            "linear2.weight": block.net[-1].weight,
            "linear2.bias": block.net[-1].bias,
            "norm1.weight": block.norm1.weight,
            "norm1.bias": block.norm1.bias,
            "norm2.weight": block.norm2.weight,
            "norm2.bias": block.norm2.bias,
        }
    )
    return layer
