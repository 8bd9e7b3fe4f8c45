"""What several tests share: small models, windows of small data, and PyTorch's own layer."""

import math

import numpy as np
import torch
import torch.nn as nn

import doorkey
import model
from model import ModelConfig

CONTEXT = 5
SMALL = dict(context=CONTEXT, n_layer=2, n_head=2, n_embd=16, n_ff=24, dropout=0.1, max_timestep=20)
VALUES = {
    "layout": ("timestep", "factor", "entry"),
    "positions": ("sinusoidal", "learned", "timestep"),
    "hidden": ("flag", "zero"),
    "norm": ("post", "pre"),
    "embedding": ("relu", "norm"),
}
# Not every combination, but every pair of two settings' values meets somewhere (a test says so).
UNIMASK = (
    ("timestep", "sinusoidal", "zero", "post", "relu"),
    ("timestep", "learned", "flag", "pre", "norm"),
    ("timestep", "timestep", "zero", "post", "norm"),
    ("factor", "sinusoidal", "flag", "post", "relu"),
    ("factor", "learned", "zero", "post", "norm"),
    ("factor", "timestep", "flag", "pre", "relu"),
    ("entry", "sinusoidal", "zero", "pre", "norm"),
    ("entry", "learned", "flag", "post", "relu"),
    ("entry", "timestep", "zero", "post", "relu"),
)
DECISION_GPT = (
    ("sinusoidal", "flag", "post", "relu"),
    ("sinusoidal", "zero", "pre", "norm"),
    ("learned", "flag", "pre", "norm"),
    ("learned", "zero", "post", "relu"),
    ("timestep", "flag", "post", "norm"),
    ("timestep", "zero", "pre", "relu"),
)
KINDS = ("unimask", "dt", "nn")
RICH = dict(fourier_features=3, differences=True, tanh_actions=True)
CONFIGS = [dict(model_type="unimask") | dict(zip(VALUES, row)) for row in UNIMASK]
CONFIGS += [dict(model_type="dt") | dict(zip(list(VALUES)[1:], row)) for row in DECISION_GPT]
CONFIGS += [dict(model_type="nn", hidden=hidden) for hidden in ("flag", "zero")]
CONFIGS += [dict(model_type=kind) | RICH for kind in KINDS]
CONFIGS += [dict(model_type="unimask", differences=True, layout="entry", hidden="zero")]
CONFIGS += [dict(model_type=kind, head="gaussian") for kind in KINDS]
FAMILIES = [dict(model_type="unimask", layout=layout) for layout in VALUES["layout"]]
FAMILIES += [dict(model_type="dt"), dict(model_type="nn")]


def name_of(config):
    return "-".join(map(str, config.values()))


def build(config, factors, seed=0):
    """A small model in eval mode whose outputs depend on every weight: no layer starts at zero."""
    torch.manual_seed(seed)
    return model.build(ModelConfig(**SMALL | config), factors).eval()


def windows(trajectories, T=CONTEXT, start=2):
    """{factor: (B, T)} of all trajectories from timestep `start`, and "timestep"."""
    values = {name: tensor[:, start : start + T] for name, tensor in trajectories.tensors().items()}
    return values | {"timestep": torch.arange(start, start + T).expand(len(trajectories), T)}


def all_seen(trajectories, T=CONTEXT):
    """(B, T, 3) masks that show everything."""
    return torch.ones(len(trajectories), T, 3, dtype=torch.bool)


def identical(one, other):
    """Whether two dictionaries of outputs agree in every bit (and hold no NaN)."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def scrambled(values, keep, factors, number=math.nan, seed=0):
    """The same values wherever keep ({factor: (B, T)}) is true; elsewhere others.

    Classes are then other classes, and numbers are `number`.
    """
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
    pre = config.norm == "pre"
    layer = nn.TransformerEncoderLayer(d, nh, ff, dropout=0.0, batch_first=True, norm_first=pre)
    ours = {
        "self_attn.in_proj_": block.attention.qkv,
        "self_attn.out_proj.": block.attention.proj,
        "linear1.": block.mlp[0],
        "linear2.": block.mlp[-1],
        "norm1.": block.norm1,
        "norm2.": block.norm2,
    }
    weights = {f"{name}weight": part.weight for name, part in ours.items()}
    layer.load_state_dict(weights | {f"{name}bias": part.bias for name, part in ours.items()})
    return layer.eval()


def step(agent_pos, key_pos, has_key, door_open, action, size=6):
    """One move in DoorKey, in any number of states at once: arrays of one shape, cells as classes.

    Returns the next four. A state that cannot be reached, or no action, fails.
    """
    world = doorkey.table(size)
    # numpy refuses an index outside the array.
    look_up = lambda array, index: array.ravel()[np.ravel_multi_index(index, array.shape)]
    state = look_up(world.index, (agent_pos, key_pos, has_key, door_open))
    assert (state >= 0).all(), "its key or its door does not fit the rest"
    after = look_up(world.successor, (state, action))
    return tuple(np.moveaxis(world.states[after], -1, 0))
