"""The models: the UniMASK transformer, and the two baselines Decision-GPT and a feed-forward net, with one call.

    outputs = model(values, see)    # {factor: logits (B, T, classes) or means (B, T, k)}; see head for variances

`values` holds a tensor for each factor, `see` says which entries the model is shown; what hidden entries contain never
matters, not even in the last bit. Every model predicts every state and action factor (Decision-GPT: the actions).
The transformer is one bidirectional encoder over the tokens of a window (Uni[MASK], section 4.1): hidden entries are
replaced by a "hidden" flag, and the network fills them in.

Read next: attention.py, then train.py. What a mask is stands in masks.py, what a factor is in data.py.
"""

import math
import os
import pickle
import zipfile
import zlib
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from attention import Block, Dropout, pick
from data import Factor
from masks import expand


@dataclass
class ModelConfig:
    model: str = "unimask"  # "unimask", "dt" (causal, predicts actions) or "nn" (feed-forward)
    context: int = 10  # T, timesteps in a window
    n_layer: int = 3
    n_head: int = 8
    n_embd: int = 128
    n_ff: int = 128
    dropout: float = 0.1
    layout: str = "timestep"  # a token per "timestep", per "factor" group of it (return, state, action), or per "entry"
    hidden: str = "flag"  # what stands for a hidden entry: a learned "flag", or "zero" as published
    positions: str = "sinusoidal"  # "sinusoidal", "learned", or "timestep" (learned, counted from the episode's start)
    max_timestep: int = 1000  # size of the "timestep" table
    norm: str = "post"  # layer norm "post" (as published) or "pre" each block
    octaves: int = 0  # continuous states also enter as sin and cos at this many octave frequencies
    differences: bool = (
        False  # continuous states also enter as their change since the timestep before, if both are seen
    )
    tanh_actions: bool = False  # squash continuous actions into [-1, 1]
    # continuous factors: a "mean", with squared error as loss, a "median", with absolute error, or a "gaussian", with a
    # variance as well. Where an expert goes one of two ways a mean goes neither; a median takes the likelier one.
    head: str = "mean"

    def __post_init__(self):
        choices = {"model": ("unimask", "dt", "nn"), "layout": ("timestep", "factor", "entry"), "hidden": ("flag", "zero"),
                   "positions": ("sinusoidal", "learned", "timestep"), "norm": ("post", "pre"),
                   "head": ("mean", "median", "gaussian")}  # fmt: skip
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key}={getattr(self, key)!r} is not one of {', '.join(allowed)}")
        for key in ("context", "n_head", "n_embd", "n_ff", "max_timestep"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)} must be at least 1")
        for key in ("n_layer", "octaves"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key}={getattr(self, key)} must not be negative")
        if self.model != "nn" and self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} must be a multiple of n_head={self.n_head}")
        if self.n_embd % 2:
            raise ValueError(f"n_embd={self.n_embd} must be even: positions are pairs of sine and cosine")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be in [0, 1)")


class Transformer(nn.Module):
    """UniMASK, and with config.model="dt" Decision-GPT: the same network with a causal mask."""

    def __init__(self, config, factors):
        super().__init__()
        self.config, self.factors, self.causal = config, factors, config.model == "dt"
        self.groups = token_groups(config, factors)
        self.inputs = nn.ModuleList([Encoder(group, config, config.n_embd) for group in self.groups])
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.norm = nn.LayerNorm(config.n_embd) if config.norm == "pre" else nn.Identity()
        decoded = self.decoded_groups()
        self.outputs = nn.ModuleList([Decoder(group, config) for group in decoded])
        self.decoded = [g for g, group in enumerate(decoded) if group]  # tokens of a timestep that predict
        if config.positions == "timestep":
            self.position = nn.Embedding(config.max_timestep, config.n_embd)
        elif config.positions == "learned":
            self.position = nn.Embedding(config.context * len(self.groups), config.n_embd)
        else:
            table = sinusoidal(config.context * len(self.groups), config.n_embd)
            self.register_buffer("position", table, persistent=False)

    def decoded_groups(self):
        """The factors predicted from each token of a timestep: its own, but for Decision-GPT the action from the state."""
        predicted = [[f for f in group if f.group != "RETURN"] for group in self.groups]
        if self.causal:
            kinds = [group[0].group for group in self.groups]
            predicted = [[] for _ in self.groups]
            predicted[kinds.index("STATE")] = [f for f in self.factors if f.group == "ACTION"]
        return predicted

    def forward(self, values, see, only=slice(None)):
        """{factor: (B, T, classes or k)}. values: {factor: (B, T) or (B, T, k)}; see: (B, T, 3), or {factor: (B, T)}.

        only: the timesteps to decode, a slice or indices (n,), or (B, n) of each sequence its own. Whoever needs one of
        them, as in rollouts and behaviour cloning, saves most of the last block.
        Raises ValueError if the window is longer than the context.
        """
        see = expand(see, self.factors)
        B, T = see[self.factors[0].name].shape
        if T > self.config.context:
            raise ValueError(f"a window of {T} steps is longer than the model's context of {self.config.context}")
        tokens = torch.stack([encode(values, see) for encode in self.inputs], dim=2)  # (B, T, groups, d)
        x = tokens.flatten(1, 2) * math.sqrt(self.config.n_embd)  # (B, T * groups, d)
        x = self.dropout(x + self.positions(values, x))
        rows = torch.arange(x.shape[1], device=x.device).view(T, -1)[:, self.decoded]  # (T, groups decoded)
        rows = rows[only].flatten(-2)  # the tokens to decode: (n * groups,) or (B, n * groups)
        for number, block in enumerate(self.blocks, 1):
            last = number == len(self.blocks) and rows.shape[-1] < x.shape[1]
            x = block(x, self.causal, rows if last else slice(None))
        x = self.norm(x if self.blocks else pick(x, rows))
        x = x.view(B, -1, len(self.decoded), self.config.n_embd)  # (B, timesteps, groups decoded, d)
        decoded = zip(self.decoded, x.unbind(dim=2))
        return {name: y for g, token in decoded for name, y in self.outputs[g](token).items()}

    def positions(self, values, x):
        """(T * groups, d), or (B, T * groups, d) of timestep embeddings."""
        if self.config.positions == "timestep":
            last = self.config.max_timestep - 1  # later timesteps than the table has share its last row
            return self.position(values["timestep"].clamp(max=last)).repeat_interleave(len(self.groups), dim=1)
        table = self.position.weight if self.config.positions == "learned" else self.position
        return table[: x.shape[1]]


class FeedForwardNet(nn.Module):
    """The NN baseline: an MLP on the flattened window, n_layer hidden layers of width n_embd."""

    def __init__(self, config, factors):
        super().__init__()
        self.config, self.factors = config, factors
        predicted = [f for f in factors if f.group != "RETURN"]
        self.encode = Encoder(factors, config)
        widths = [self.encode.width * config.context] + [config.n_embd] * config.n_layer
        layers = [
            nn.Sequential(nn.Linear(a, b), nn.ReLU(), Dropout(config.dropout)) for a, b in zip(widths, widths[1:])
        ]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], output_width(predicted, config) * config.context))
        self.predicted = predicted

    def forward(self, values, see, only=slice(None)):
        """As Transformer.forward; the window must have exactly `context` steps."""
        features = self.encode(values, expand(see, self.factors))  # (B, T, width)
        B, T, _ = features.shape
        if T != self.config.context:
            raise ValueError(f"the feed-forward net needs windows of exactly {self.config.context} steps, not {T}")
        x = pick(self.layers(features.flatten(1)).view(B, T, -1), only)
        return split_outputs(x, self.predicted, self.config)


class Encoder(nn.Module):
    """Factors of a timestep as features with hidden entries removed and, if `n_embd` is given, a linear layer and ReLU."""

    def __init__(self, factors, config, n_embd=None):
        super().__init__()
        self.factors, self.config = factors, config
        self.differences = [f for f in factors if config.differences and f.kind == "continuous" and f.group == "STATE"]
        flags = len(factors) + len(self.differences) if config.hidden == "flag" else 0
        waves = lambda f: 2 * config.octaves if f.kind == "continuous" and f.group == "STATE" else 0
        self.width = flags + sum(f.size * (1 + waves(f)) for f in factors)
        self.width += sum(f.size for f in self.differences)
        self.linear = nn.Linear(self.width, n_embd) if n_embd else None
        for f in factors:
            if f.kind == "continuous":
                self.register_buffer(f"mean_{f.name}", torch.tensor(f.mean or [0.0] * f.size), persistent=False)
                self.register_buffer(f"std_{f.name}", torch.tensor(f.std or [1.0] * f.size), persistent=False)
                self.register_buffer(f"step_std_{f.name}", torch.tensor(f.step_std or [1.0] * f.size), persistent=False)
            else:
                self.register_buffer(f"classes_{f.name}", torch.arange(f.size), persistent=False)

    def forward(self, values, see):
        parts = []
        for f in self.factors:
            shown = see[f.name][..., None]  # (B, T, 1)
            if f.kind == "categorical":
                parts.append((values[f.name][..., None] == getattr(self, f"classes_{f.name}")) & shown)
            else:
                parts.append(torch.where(shown, self.continuous(f, values[f.name]), 0.0))
            if self.config.hidden == "flag":
                parts.append(~shown)
        for f in self.differences:
            shown = see[f.name][..., None]
            both = F.pad(shown[:, 1:] & shown[:, :-1], (0, 0, 1, 0))  # (B, T, 1), False at t=0
            step = F.pad(values[f.name].diff(dim=1), (0, 0, 1, 0)) / getattr(self, f"step_std_{f.name}")
            parts.append(torch.where(both, step, 0.0))
            if self.config.hidden == "flag":
                parts.append(~both)
        features = torch.cat([part.to(torch.get_default_dtype()) for part in parts], dim=-1)  # (B, T, width)
        return features if self.linear is None else F.relu(self.linear(features))

    def continuous(self, factor, value):
        """(B, T, size * (1 + 2 octaves)): the normalised value, and a state's sine and cosine at frequencies 1, 2, 4, ...

        Neighbouring positions of a trajectory differ by 1% of their range; the high octaves make that step visible.
        Those of a return would only tell the training episodes apart, and nothing of what to do for another return.
        """
        x = (value - getattr(self, f"mean_{factor.name}")) / getattr(self, f"std_{factor.name}")
        if factor.group != "STATE":
            return x
        phase = x[..., None] * (2.0 ** torch.arange(self.config.octaves, device=x.device))  # (B, T, size, octaves)
        return torch.cat([x, phase.sin().flatten(-2), phase.cos().flatten(-2)], dim=-1)


class Decoder(nn.Module):
    """A linear layer from a token to the predictions of its factors."""

    def __init__(self, factors, config):
        super().__init__()
        self.factors, self.config = factors, config
        self.linear = nn.Linear(config.n_embd, output_width(factors, config)) if factors else None

    def forward(self, x):
        return split_outputs(self.linear(x), self.factors, self.config) if self.factors else {}


def token_groups(config, factors):
    """The factors of each token of a timestep. Decision-GPT always takes a token per group: return, state, action."""
    if config.layout == "timestep" and config.model != "dt":
        return [factors]
    if config.layout == "entry" and config.model != "dt":
        return [[f] for f in factors]
    groups = [[f for f in factors if f.group == group] for group in ("RETURN", "STATE", "ACTION")]
    return [group for group in groups if group]


def output_width(factors, config):
    return sum(output_sizes(factors, config))


def output_sizes(factors, config):
    """The numbers that the network puts out for each factor: its size, twice that of a Gaussian's mean and log-variance."""
    return [f.size * (2 if f.kind == "continuous" and config.head == "gaussian" else 1) for f in factors]


def split_outputs(x, factors, config):
    """{factor: logits or means in raw units} from the concatenated outputs x (..., output_width).

    With head="gaussian" also {"NAME/log_variance": (..., k)} in raw units, for each continuous factor NAME.
    """
    outputs = dict(zip([f.name for f in factors], x.split(output_sizes(factors, config), dim=-1)))
    for f in factors:
        if f.kind == "continuous":
            std, mean = x.new_tensor(f.std or [1.0] * f.size), x.new_tensor(f.mean or [0.0] * f.size)
            if config.head == "gaussian":
                outputs[f.name], log_variance = outputs[f.name].split(f.size, dim=-1)
                # softly within e^-14..e^14: what a window repeats, such as a goal, would drive it to minus infinity
                outputs[f"{f.name}/log_variance"] = 14 * (log_variance / 14).tanh() + 2 * std.log()
            outputs[f.name] = outputs[f.name] * std + mean
            if config.tanh_actions and f.group == "ACTION":
                outputs[f.name] = outputs[f.name].tanh()
    return outputs


def sinusoidal(T, d):
    """(T, d) position table of Vaswani et al. 2017, section 3.5."""
    angle = torch.arange(T)[:, None] * torch.exp(-math.log(10000.0) * torch.arange(0, d, 2) / d)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def entry_losses(outputs, values, factors, head="mean"):
    """{factor: (B, T)} loss of every entry: cross-entropy in nats, or squared error averaged over dimensions.

    The errors of continuous states are in units of their standard deviation, those of actions in raw units. A median
    (head="median") has its absolute error instead, and a Gaussian its negative log-likelihood in these units, in nats
    per dimension.
    """
    losses = {}
    for f in factors:
        if f.name not in outputs:
            continue
        prediction, truth = outputs[f.name].float(), values[f.name]
        if f.kind == "categorical":
            losses[f.name] = F.cross_entropy(prediction.flatten(0, 1), truth.flatten(), reduction="none").view(
                truth.shape
            )
        else:
            error = (prediction - truth) / prediction.new_tensor(f.std or [1.0])
            losses[f.name] = (error.abs() if head == "median" else error.square()).mean(dim=-1)
            log_variance = outputs.get(f"{f.name}/log_variance")
            if log_variance is not None:
                log_variance = log_variance.float() - 2 * prediction.new_tensor(f.std or [1.0]).log()
                nats = 0.5 * (error.square() * (-log_variance).exp() + log_variance + math.log(2 * math.pi))
                losses[f.name] = nats.mean(dim=-1)
    return losses


def loss(outputs, values, predict, factors, weights=None, head="mean"):
    """Sum over factors of weight x mean loss over the predicted entries (Uni[MASK], section 4.2).

    predict: (B, T, 3) or {factor: (B, T)}; weights: {factor: number}, 1 where absent; head: the model's config.head.
    Returns the total, a scalar tensor, and {factor: its unweighted mean}.
    """
    predict, parts = expand(predict, factors), {}
    # An entry that is not predicted may hold anything, also NaN, of which even the gradient of an unused loss is NaN.
    wanted = {f.name: predict[f.name] if f.kind == "categorical" else predict[f.name][..., None] for f in factors}
    values = {f.name: torch.where(wanted[f.name], values[f.name], 0) for f in factors}
    for name, entries in entry_losses(outputs, values, factors, head).items():
        mask = predict[name]
        parts[name] = torch.where(mask, entries, 0.0).sum() / mask.sum().clamp(min=1)
    total = sum(parts[name] * (weights or {}).get(name, 1.0) for name in parts)
    return total, parts


def num_params(model):
    return sum(p.numel() for p in model.parameters())


def configure_optimizer(model, learning_rate, weight_decay):
    """AdamW, with weight decay on matrices only: biases, norms and position tables are left alone."""
    decay = [p for name, p in model.named_parameters() if p.dim() >= 2 and not name.startswith("position")]
    rest = [p for name, p in model.named_parameters() if p.dim() < 2 or name.startswith("position")]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def build(config, factors):
    """A model with fresh weights from torch's default generator. config: ModelConfig."""
    return FeedForwardNet(config, factors) if config.model == "nn" else Transformer(config, factors)


def to_plain(model):
    """What a checkpoint needs to rebuild a model, as tensors and plain data."""
    return {
        "model_config": asdict(model.config),
        "factors": [asdict(f) for f in model.factors],
        "weights": model.state_dict(),
    }


def load(path, device="cpu"):
    """The model saved in a checkpoint file or an out_dir (its best.pt, or ckpt.pt where no best was kept), in eval mode."""
    checkpoint = load_checkpoint(path, device)
    try:
        return from_plain(checkpoint).to(device).eval()
    except ValueError as error:
        raise ValueError(f"{path}: {str(error)[:200]}") from None


def from_plain(checkpoint):
    """The model of a checkpoint's dictionary. Raises ValueError if its parts do not fit together."""
    try:
        model = build(ModelConfig(**checkpoint["model_config"]), [Factor.from_plain(f) for f in checkpoint["factors"]])
        model.load_state_dict(checkpoint["weights"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"the checkpoint does not describe a model of this code: {' '.join(str(error).split())}"
        ) from None
    return model


def load_checkpoint(path, device="cpu"):
    """The dictionary that train.py saved. Raises ValueError, in one sentence, if it is missing, damaged or something else."""
    if os.path.isdir(path):
        names = [name for name in ("best.pt", "ckpt.pt") if os.path.exists(os.path.join(path, name))]
        if not names:
            raise ValueError(
                f"there is no checkpoint (best.pt or ckpt.pt) in {path}: train one with train.py --out_dir={path}"
            )
        path = os.path.join(path, names[0])
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():  # torch.load reads flipped bits as they are: 40 of 40 in a test
                raise ValueError(f"the checksum of its part {damaged} is wrong")
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"there is no checkpoint {path}") from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, MemoryError,
            pickle.UnpicklingError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise ValueError(
            f"{path} is not a whole checkpoint: {str(error).splitlines()[0] if str(error) else 'empty'}"
        ) from None
    if not isinstance(checkpoint, dict) or "model_config" not in checkpoint:
        raise ValueError(f"{path} is not a checkpoint that train.py saved")
    return checkpoint
