"""The models: the UniMASK transformer, and two baselines, Decision-GPT and a feed-forward net.

    outputs = network(values, see)    # {factor: logits (B, T, classes) or means (B, T, k)}

`values` holds a tensor for each factor; `see` says which entries the model is shown. What hidden
entries contain never matters, not even in the last bit. UniMASK is one bidirectional transformer
over the timesteps of a window (Uni[MASK], section 4.1): each timestep is a token, what is hidden of
it is zeros with a flag beside them, and the network fills it in.

From top to bottom: the block, the features of a timestep, the models, their outputs, the loss.
Read next: train.py. What a mask is stands in masks.py, what a factor is in data.py.
"""

import configurator

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical, Independent, Normal

from masks import expand


@dataclass
class ModelConfig:
    """The settings of a model. The first lines of train.py say what each is."""

    model_type: str = "unimask"
    context: int = 10
    n_layer: int = 3
    n_head: int = 8
    n_embd: int = 128
    n_ff: int = 128
    dropout: float = 0.1
    layout: str = "timestep"
    hidden: str = "flag"
    positions: str = "sinusoidal"
    max_timestep: int = 1000
    norm: str = "pre"
    embedding: str = "relu"
    init_range: float = 0.0
    fourier_features: int = 0
    differences: bool = False
    tanh_actions: bool = False
    head: str = "mean"
    return_weight: float = 0.0

    def __post_init__(self):
        configurator.check(asdict(self), ALLOWED)
        transformer = self.model_type in ("unimask", "dt")
        if transformer and self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} must be a multiple of n_head={self.n_head}")
        if transformer and self.n_embd % 2 and self.positions == "sinusoidal":
            raise ValueError(f"n_embd={self.n_embd} must be even: positions are sine and cosine")


ALLOWED = {
    "model_type": ("unimask", "dt", "nn"),
    "layout": ("timestep", "factor", "entry"),
    "hidden": ("flag", "zero"),
    "positions": ("sinusoidal", "learned", "timestep"),
    "norm": ("post", "pre"),
    "embedding": ("relu", "norm"),
    "init_range": (0, math.inf),
    "head": ("mean", "median", "gaussian"),
    "dropout": (0, 1),
    "fourier_features": (0, 64),
    "return_weight": (0, math.inf),
} | dict.fromkeys(("context", "n_layer", "n_head", "n_embd", "n_ff", "max_timestep"), (1, math.inf))


# --------------------------------------------------------------------------------------------------
# The block of the transformer


class Dropout(nn.Module):
    """As nn.Dropout; on a CPU a random byte decides on an entry: 10% off a step.

    So p is rounded to 256ths there, unless that would make it 0.
    """

    by_bytes = True

    def __init__(self, p):
        super().__init__()
        self.p, self.threshold = p, min(round(256 * p), 255)

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        by_bytes = self.by_bytes and self.threshold > 0 and x.device.type == "cpu"
        if not by_bytes or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64)
        random = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()]  # eight a draw
        keep = random.ge_(self.threshold).view(x.shape)  # 0 or 1; only in place is it vectorised
        return x * keep.to(x.dtype).mul_(256 / (256 - self.threshold))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config):
        super().__init__()
        d, self.n_head = config.n_embd, config.n_head
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.dropout = Dropout(config.dropout)

    def forward(self, x, mask=None, rows=None):
        """x: (B, T, d) -> (B, n, d). rows: (B, n) the tokens that ask, None for all of them.

        mask: bool (B or 1, n, T), where a token may look; None: everywhere.
        """
        if rows is not None and rows.shape[1] == 1:
            return self.ask_once(x, mask, rows)
        B, T, d = x.shape
        nh, hs = self.n_head, d // self.n_head
        whole = mask is None and rows is None
        if whole and T * T * hs < 400 and B % 2 == 0 and x.device.type == "cpu":
            # PyTorch multiplies matrices by plain loops where that takes fewer than 400 products.
            # So this calls itself with two sequences side by side, each blind to the other: 16% off
            # a step of Maze2D (T=5, 16 heads).
            sequence = torch.arange(2 * T) // T  # 0 or 1, (2 T,)
            own = (sequence == sequence[:, None])[None]  # (1, 2 T, 2 T)
            return self(x.reshape(B // 2, 2 * T, d), own).view(B, T, d)
        qkv = self.qkv(x).view(B, T, 3, nh, hs)
        # Three (B * nh, T, hs), reshaped one by one: gradients are copied once, not three times (7%).
        q, k, v = (part.transpose(1, 2).reshape(B * nh, T, hs) for part in qkv.unbind(2))
        if rows is not None:
            q = gather(q, rows.repeat_interleave(nh, dim=0))  # (B * nh, n, hs)
        if mask is not None:
            # (B * nh, n, T), or one for all, (1, n, T)
            mask = mask if len(mask) == 1 else mask.repeat_interleave(nh, dim=0)
        y = attend(q, k, v, mask, self.dropout)  # (B * nh, n, hs)
        y = y.view(B, nh, -1, hs).transpose(1, 2).reshape(B, -1, d)  # the heads side by side
        return self.proj(y)

    def ask_once(self, x, mask, rows):
        """forward() where one token asks, rows (B, 1): 13 to 28% off a step of cloning in Maze2D.

        No keys and values are computed: q . (W x) = (q W) . x, and a mean of values is the value of
        a mean. The bias of keys adds the same to all scores, which changes no weight.
        """
        (B, _, d), nh = x.shape, self.n_head
        wq, wk, wv = self.qkv.weight.view(3, nh, d // nh, d)  # a matrix for each head, (hs, d)
        bq, _, bv = self.qkv.bias.view(3, nh, 1, d // nh)
        q = (gather(x, rows)[:, 0] @ wq.mT + bq) @ wk / math.sqrt(d // nh)  # (nh, B, d)
        scores = x @ q.permute(1, 2, 0)  # (B, T, nh)
        if mask is not None:
            scores = scores.masked_fill(~mask.mT, -math.inf)
        weights = self.dropout(scores.softmax(dim=1))
        mean = (weights.mT @ x).transpose(0, 1)  # (nh, B, d)
        y = mean @ wv.mT + weights.sum(dim=1).T[..., None] * bv  # (nh, B, hs)
        return self.proj(y.transpose(0, 1).reshape(B, 1, d))


def attend(q, k, v, mask, dropout):
    """softmax(q k^T / sqrt(hs)) v: (heads, n, hs) of q (heads, n, hs), k and v (heads, T, hs)."""
    p = dropout.p if dropout.training else 0.0
    T, hs = k.shape[1:]
    if T >= 64 and (p == 0 or k.device.type != "cpu"):
        mask = None if mask is None else mask[None]
        return F.scaled_dot_product_attention(q[None], k[None], v[None], mask, p)[0]
    if T < 16 and k.is_cuda and mask is None and torch.compiler.is_compiling():
        return attend_by_sums(q, k, v, dropout)
    # Few tokens, or dropout on a CPU: written out, which takes 12% off a CPU's step. Softmax is slow
    # there along a short last axis: keys stand before queries, and if very few, before heads too.
    scores = torch.bmm(k, q.transpose(1, 2)) / math.sqrt(hs)  # (heads, T, n)
    if mask is not None:
        scores = scores.masked_fill(~mask.transpose(1, 2), -math.inf)
    axis = 0 if T < 16 else 1
    weights = scores.transpose(1, axis).softmax(dim=axis).transpose(1, axis)
    return torch.bmm(dropout(weights).transpose(1, 2), v)


def attend_by_sums(q, k, v, dropout):
    """attend() of few tokens: torch.compile makes one kernel of sums, 10% off a GPU's step."""
    scores = (q[:, :, None] * k[:, None]).sum(dim=-1) / math.sqrt(q.shape[-1])  # (heads, n, T)
    return (dropout(scores.softmax(dim=-1))[..., None] * v[:, None]).sum(dim=2)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each with a residual connection and layer norm."""

    def __init__(self, config):
        super().__init__()
        d, n_ff = config.n_embd, config.n_ff
        self.pre = config.norm == "pre"
        self.attention, self.dropout = Attention(config), Dropout(config.dropout)
        hidden = [nn.Linear(d, n_ff), nn.ReLU(), Dropout(config.dropout)]
        self.mlp = nn.Sequential(*hidden, nn.Linear(n_ff, d))
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x, mask=None, rows=None):
        """x: (B, T, d) -> (B, n, d), the tokens in rows (B, n); mask: as in Attention."""
        asking = x if rows is None else gather(x, rows)  # (B, n, d) the residual stream
        if self.pre:
            x = asking + self.dropout(self.attention(self.norm1(x), mask, rows))
            return x + self.dropout(self.mlp(self.norm2(x)))
        x = self.norm1(asking + self.dropout(self.attention(x, mask, rows)))
        return self.norm2(x + self.dropout(self.mlp(x)))


def gather(x, rows):
    """(B, n, ...) of x (B, T, ...): the entries along T that rows (B, n) names."""
    B, T = x.shape[:2]
    return x.flatten(0, 1)[rows + T * torch.arange(B, device=x.device)[:, None]]


def take(x, at):
    """(B, 1, ...) of x (B, T, ...): its timestep at (B,). x itself if `at` is None."""
    return x if at is None else gather(x, at[:, None])


# --------------------------------------------------------------------------------------------------
# From factors to numbers


class Units(nn.Module):
    """Statistics of continuous factors as tensors on the device of a model: units(f, "std"), (k,)."""

    def __init__(self, factors):
        super().__init__()
        for f in factors:
            for name in ("mean", "std", "step_std") if f.kind == "continuous" else ():
                value = getattr(f, name) or [float(name != "mean")] * f.size
                self.register_buffer(f"{name}_{f.name}", torch.tensor(value), persistent=False)

    def forward(self, f, name):
        return getattr(self, f"{name}_{f.name}")


class Features(nn.Module):
    """Some factors of a timestep as numbers, with no trace of what is hidden. It has no weights."""

    def __init__(self, factors, config):
        super().__init__()
        self.factors, self.config, self.units = factors, config, Units(factors)
        states = [f for f in factors if f.kind == "continuous" and f.group == "STATE"]
        self.differences = states if config.differences else []
        flags = len(factors) + len(self.differences) if config.hidden == "flag" else 0
        waves = 2 * config.fourier_features * sum(f.size for f in states)
        self.width = flags + waves + sum(f.size for f in factors + self.differences)

    def forward(self, values, see):
        """(B, T, width). values: {factor: (B, T) or (B, T, k)}; see: {factor: (B, T)}."""
        parts = []
        for f in self.factors:
            shown = see[f.name][..., None]  # (B, T, 1)
            if f.kind == "categorical":  # one-hot
                classes = torch.arange(f.size, device=shown.device)
                parts.append((values[f.name][..., None] == classes) & shown)
            else:
                parts.append(torch.where(shown, self.scaled(f, values[f.name]), 0.0))
            parts.append(~shown)
        for f in self.differences:  # since the timestep before: they show a hidden velocity
            shown = see[f.name][..., None]
            both = F.pad(shown[:, 1:] & shown[:, :-1], (0, 0, 1, 0))  # (B, T, 1), False at t=0
            change = F.pad(values[f.name].diff(dim=1), (0, 0, 1, 0))
            change = change / self.units(f, "step_std")
            parts += [torch.where(both, change, 0.0), ~both]
        if self.config.hidden == "zero":  # as published: hidden and zero look the same
            parts = parts[::2]  # every second part is a flag
        return torch.cat([part.to(torch.get_default_dtype()) for part in parts], dim=-1)

    def scaled(self, f, value):
        """A continuous factor without units, (B, T, k); of states, with their Fourier features.

        Neighbouring positions of a trajectory differ by 1% of their range: sine and cosine at the
        frequencies 1, 2, 4, ... make that visible. Returns have none: by these a model would know
        each training episode by heart, and not what to do with a return that it never saw.
        """
        x = (value - self.units(f, "mean")) / self.units(f, "std")
        if f.group != "STATE":
            return x
        frequency = 2.0 ** torch.arange(self.config.fourier_features, device=x.device)
        phase = x[..., None] * frequency  # (B, T, k, frequencies)
        return torch.cat([x, phase.sin().flatten(-2), phase.cos().flatten(-2)], dim=-1)


# --------------------------------------------------------------------------------------------------
# The models


class Transformer(nn.Module):
    """UniMASK, and with model_type="dt" Decision-GPT: the same network with a causal mask."""

    def __init__(self, config, factors):
        super().__init__()
        self.config, self.factors, self.units = config, factors, Units(factors)
        self.causal = config.model_type == "dt"
        # The factors of each token of a timestep: all of them, those of a group, or one.
        groups = [[f for f in factors if f.group == g] for g in ("RETURN", "STATE", "ACTION")]
        groups = [group for group in groups if group]
        layouts = {"timestep": [factors], "factor": groups, "entry": [[f] for f in factors]}
        tokens = layouts["factor" if self.causal else config.layout]
        self.features = nn.ModuleList([Features(token, config) for token in tokens])
        self.embedding = nn.ModuleList([nn.Linear(f.width, config.n_embd) for f in self.features])
        self.embedding_norm = nn.LayerNorm(config.n_embd) if config.embedding == "norm" else None
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.norm = nn.LayerNorm(config.n_embd) if config.norm == "pre" else nn.Identity()
        # A token predicts its own factors. But in Decision-GPT a state's token predicts the action;
        # the action's own token predicts nothing, since it has been shown the action.
        if self.causal:
            actions = [f for f in factors if f.group == "ACTION"]
            answers = [actions if token[0].group == "STATE" else [] for token in tokens]
        else:
            answers = [predicted(token, config) for token in tokens]
        self.decoded = [i for i, asked in enumerate(answers) if asked]  # the tokens that predict
        self.answers = [answers[i] for i in self.decoded]  # the factors that each of them predicts
        self.predicted = [f for asked in self.answers for f in asked]
        sizes = [sum(output_sizes(asked, config)) for asked in self.answers]
        self.heads = nn.ModuleList([nn.Linear(config.n_embd, n) for n in sizes])
        for layer in (*self.embedding, *self.heads) if config.init_range else ():
            nn.init.uniform_(layer.weight, -config.init_range, config.init_range)
            nn.init.zeros_(layer.bias)
        places = config.context * len(tokens)
        if config.positions == "sinusoidal":
            self.register_buffer("position", sinusoidal(places, config.n_embd), persistent=False)
        else:  # a learned row for each place in the window, or each timestep of an episode
            places = config.max_timestep if config.positions == "timestep" else places
            gpt = config.embedding == "norm" and config.positions == "learned"  # small, as GPT-2's
            self.position = nn.Parameter((0.02 if gpt else 1) * torch.randn(places, config.n_embd))

    def forward(self, values, see, at=None):
        """{factor: (B, T, classes or k)}, or (B, 1, ...) with `at`.

        values: {factor: (B, T) or (B, T, k)}, and for positions="timestep" also "timestep" (B, T);
        see: (B, T, 3) or {factor: (B, T)}.
        at: (B,) the one timestep that is wanted of each sequence: the last block is computed for it
        alone. That halves a step of behaviour cloning, and a rollout.
        Raises ValueError if the window is longer than the context.
        """
        see = expand(see, self.factors)
        B, T = see[self.factors[0].name].shape
        if T > self.config.context:
            raise ValueError(f"a window of {T} steps exceeds the context of {self.config.context}")
        # A token for each timestep, or for each part of it.
        tokens = [embed(f(values, see)) for f, embed in zip(self.features, self.embedding)]
        x = torch.stack(tokens, dim=2).flatten(1, 2)  # (B, T * tokens, d)
        number = torch.arange(x.shape[1], device=x.device)  # (T * tokens,)
        place = number
        if self.config.positions == "timestep":  # what is later than the table shares its last row
            timestep = values["timestep"].clamp(max=self.config.max_timestep - 1)  # (B, T)
            place = timestep.repeat_interleave(len(tokens), dim=1)  # (B, T * tokens)
        # Rectified as published, and scaled to the size of the positions, which would drown it.
        x = self.embedding_norm(x) if self.embedding_norm else F.relu(x) * math.sqrt(x.shape[-1])
        x = self.dropout(x + self.position[place])
        # Which tokens are decoded: those that predict something, at the wanted timesteps.
        rows = torch.stack([number[i :: len(tokens)] for i in self.decoded], dim=1)  # (T, n)
        rows = take(rows.expand(B, -1, -1), at).flatten(1)  # (B, n)
        mask = (number <= number[:, None])[None] if self.causal else None  # (1, T * tokens, ...)
        for block in self.blocks[:-1]:
            x = block(x, mask)  # (B, T * tokens, d)
        if rows.shape[1] == x.shape[1]:
            x = self.blocks[-1](x, mask)
        else:  # the last block: only what is decoded
            mask = (number <= rows[..., None]) if self.causal else None  # (B, n, T * tokens)
            x = self.blocks[-1](x, mask, rows)
        x = self.norm(x).view(B, -1, len(self.heads), self.config.n_embd)  # (B, T or 1, n, d)
        outputs = {}
        for token, head, asked in zip(x.unbind(dim=2), self.heads, self.answers):
            outputs |= split_outputs(head(token), asked, self)
        return outputs


class FeedForwardNet(nn.Module):
    """The NN baseline: an MLP on the flattened window, n_layer hidden layers of width n_embd."""

    def __init__(self, config, factors):
        super().__init__()
        self.config, self.factors, self.units = config, factors, Units(factors)
        self.predicted = predicted(factors, config)
        self.features = Features(factors, config)
        widths = [self.features.width * config.context] + [config.n_embd] * config.n_layer
        outputs = sum(output_sizes(self.predicted, config)) * config.context
        layers = []
        for a, b in zip(widths, widths[1:]):
            layers.append(nn.Sequential(nn.Linear(a, b), nn.ReLU(), Dropout(config.dropout)))
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))

    def forward(self, values, see, at=None):
        """As Transformer.forward; the window must have exactly `context` steps."""
        features = self.features(values, expand(see, self.factors))  # (B, T, width)
        B, T, _ = features.shape
        if T != self.config.context:
            raise ValueError(f"this net needs exactly {self.config.context} steps, not {T}")
        x = self.layers(features.flatten(1)).view(B, T, -1)
        return split_outputs(take(x, at), self.predicted, self)


def build(config, factors):
    """A model with fresh weights from torch's default generator. config: ModelConfig."""
    kinds = {"unimask": Transformer, "dt": Transformer, "nn": FeedForwardNet}
    return kinds[config.model_type](config, factors)


def predicted(factors, config):
    """Those factors that a model predicts: returns only if they have a weight in the loss."""
    return [f for f in factors if f.group != "RETURN" or config.return_weight > 0]


def sinusoidal(T, d):
    """(T, d) position table of Vaswani et al. 2017, section 3.5."""
    frequency = torch.exp(-math.log(10000.0) * torch.arange(0, d, 2) / d)
    angle = torch.arange(T)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def num_params(network):
    return sum(p.numel() for p in network.parameters())


class AdamW(torch.optim.AdamW):
    """torch's own, without its wrappers, which load torch.compile: 1.6 s off each start."""

    step = torch.no_grad()(torch.optim.AdamW.step.__wrapped__)
    zero_grad = torch.optim.AdamW.zero_grad.__wrapped__
    add_param_group = torch.optim.AdamW.add_param_group.__wrapped__
    state_dict = torch.optim.AdamW.state_dict.__wrapped__
    load_state_dict = torch.optim.AdamW.load_state_dict.__wrapped__


def configure_optimizer(network, learning_rate, weight_decay):
    """AdamW, with weight decay on matrices only: not on biases, norms and position tables.

    Another optimiser needs another Together.update() in train_seeds.py as well.
    """
    decayed, rest = [], []
    for name, p in network.named_parameters():
        (decayed if p.dim() >= 2 and not name.startswith("position") else rest).append(p)
    groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    return AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)


# --------------------------------------------------------------------------------------------------
# The outputs as distributions, and the loss. A new head is a change of this section, and a name in
# ALLOWED above.
#
# A categorical factor has logits. A continuous one has a mean (squared error), a median (absolute
# error) or a Gaussian: its mean, and as "NAME/log_variance" the logarithm of its variance.


def output_sizes(factors, config):
    """The numbers that the network puts out for each factor."""
    gaussian = config.head == "gaussian"
    return [f.size * (2 if f.kind == "continuous" and gaussian else 1) for f in factors]


def split_outputs(x, factors, network):
    """{factor: (..., size)} in raw units, from the concatenated outputs x (..., sum of sizes).

    Raw units are float32: those of bfloat16 may be coarser than a standard deviation.
    """
    config, sizes = network.config, output_sizes(factors, network.config)
    outputs = dict(zip([f.name for f in factors], x.split(sizes, dim=-1)))
    for f in (f for f in factors if f.kind == "continuous"):
        mean, std = network.units(f, "mean"), network.units(f, "std")
        if config.head == "gaussian":
            outputs[f.name], log_variance = outputs[f.name].split(f.size, dim=-1)
            # Softly within e^-14..e^14. What a window repeats, such as a goal, is known exactly,
            # and would drive its variance to zero.
            log_variance = 14 * (log_variance / 14).tanh() + 2 * std.log()
            outputs[f"{f.name}/log_variance"] = log_variance
        outputs[f.name] = outputs[f.name] * std + mean
        if config.tanh_actions and f.group == "ACTION":
            outputs[f.name] = outputs[f.name].tanh()
    return outputs


def entry_losses(network, outputs, values, at=None):
    """{factor: (B, T), or (B, 1) with `at`} loss of every entry that the model predicts.

    Cross-entropy in nats; or the error of the head, averaged over dimensions: squared, absolute, or
    the Gaussian's negative log-likelihood. Errors are in units of a factor's standard deviation,
    which is 1 for the actions of the worlds made here.
    """
    losses, head = {}, network.config.head
    for f in network.predicted:
        prediction, truth = outputs[f.name].float(), take(values[f.name], at)
        if f.kind == "categorical":
            nats = F.cross_entropy(prediction.flatten(0, 1), truth.flatten(), reduction="none")
            losses[f.name] = nats.view(truth.shape)
            continue
        std = network.units(f, "std").to(prediction.device)  # answer() moves outputs to the CPU
        error = (prediction - truth) / std  # (B, T, k)
        if head == "mean":
            error = error.square()
        elif head == "median":
            error = error.abs()
        elif head == "gaussian":
            log_variance = outputs[f"{f.name}/log_variance"].float() - 2 * std.log()
            squares = error.square() * (-log_variance).exp()
            error = 0.5 * (squares + log_variance + math.log(2 * math.pi))
        losses[f.name] = error.mean(dim=-1)
    return losses


def loss(network, outputs, values, shares, at=None, weights=None):
    """Sum over factors of weight x mean loss over the predicted entries (Uni[MASK], section 4.2).

    outputs: of the network, with the same `at`. shares: {factor: (B, T)} what each entry counts,
    from traits.shares(); 0 where nothing is predicted. weights: {factor: number}, 1 where absent.
    Returns the total, a scalar tensor, and {factor: its unweighted mean}.
    """
    safe = {}
    for f in network.predicted:
        # What is not predicted may hold anything, even NaN; and NaN times a gradient of 0 is NaN.
        wanted = shares[f.name] > 0 if f.kind == "categorical" else (shares[f.name] > 0)[..., None]
        safe[f.name] = torch.where(wanted, values[f.name], 0)
    entries = entry_losses(network, outputs, safe, at)  # {factor: (B, T or 1)}
    parts = {name: (x * take(shares[name], at)).sum() for name, x in entries.items()}
    total = sum(mean * (weights or {}).get(name, 1.0) for name, mean in parts.items())
    return total, parts


def distribution(f, outputs, temperature=1.0):
    """The answer to a factor, as a torch.distributions object; None where there is only a mean.

    outputs: {factor: (..., classes or k), perhaps "NAME/log_variance"}. temperature: divides the
    logits, or a Gaussian's log-density. Who draws from it (rollout.py, sample.py) takes the
    `probs` of classes; of numbers the quantiles `base_dist.icdf`, and the entropy.
    """
    y, log_variance = outputs[f.name].double(), outputs.get(f"{f.name}/log_variance")
    if f.kind == "categorical":
        return Categorical(logits=y / temperature)
    if log_variance is None:
        return None
    deviation = math.sqrt(temperature) * (log_variance.double() / 2).exp()
    return Independent(Normal(y, deviation), 1)
