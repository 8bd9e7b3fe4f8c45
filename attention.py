"""The blocks of the transformer: attention, a two-layer net and dropout, as usual, with a few lines for speed on a CPU.

At ten tokens a sequence, PyTorch spends as much time between the matrix products as in them: on the short axes of a
softmax, on random numbers, and on memory. What is done about it is here; LOG.md has what it gains, and what did not help.
Before this: model.py, which is made of these blocks.
"""

import contextlib
import ctypes
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    """Attention and a two-layer net, each with a residual connection and layer norm."""

    def __init__(self, config):
        super().__init__()
        d = config.n_embd
        self.pre = config.norm == "pre"
        self.attention = Attention(config)
        self.net = nn.Sequential(
            nn.Linear(d, config.n_ff), nn.ReLU(), Dropout(config.dropout), nn.Linear(config.n_ff, d)
        )
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.dropout = Dropout(config.dropout)

    def forward(self, x, causal, rows=slice(None)):
        """x: (B, T, d). rows: the tokens wanted, all of which attend to all of x, as in pick(); returns (B, n, d)."""
        if self.pre:
            x = pick(x, rows) + self.dropout(self.attention(self.norm1(x), causal, rows))
            return x + self.dropout(self.net(self.norm2(x)))
        x = self.norm1(pick(x, rows) + self.dropout(self.attention(x, causal, rows)))
        return self.norm2(x + self.dropout(self.net(x)))


class Attention(nn.Module):
    """Multi-head self-attention; causal: a token attends to itself and earlier ones only."""

    def __init__(self, config):
        super().__init__()
        d, self.n_head = config.n_embd, config.n_head
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.dropout = Dropout(config.dropout)

    def forward(self, x, causal, rows=slice(None)):
        B, T, d = x.shape
        hs = d // self.n_head
        q, k, v = (
            self.qkv(x).view(B, T, 3, self.n_head, hs).permute(2, 0, 3, 1, 4).reshape(3, -1, T, hs)
        )  # (B*nh, T, hs)
        rows = rows.repeat_interleave(self.n_head, dim=0) if torch.is_tensor(rows) and rows.dim() == 2 else rows
        q = pick(q, rows)
        mask = None
        if causal:
            at = torch.arange(T, device=x.device)
            mask = at[:, None] <= at[rows][..., None, :]  # (T keys, queries) or (B*nh, T keys, queries)
        y = attend(q, k, v, mask, self.dropout)  # (B*nh, queries, hs)
        return self.proj(y.view(B, self.n_head, -1, hs).transpose(1, 2).reshape(B, -1, d))


def attend(q, k, v, mask, dropout):
    """softmax(q k^T / sqrt(hs)) v. q: (B*nh, queries, hs), k, v: (B*nh, T, hs) -> (B*nh, queries, hs).

    mask: None or bool (T keys, queries) or (B*nh, T keys, queries), true where a query may look. dropout: of the weights.
    """
    if k.shape[1] >= 64 and not (dropout.training and dropout.threshold):  # six times as fast at T=200, slower at 10
        return F.scaled_dot_product_attention(q[None], k[None], v[None], None if mask is None else mask.mT)[0]
    # Keys come before queries: PyTorch's CPU softmax is slow along a short last axis.
    scores = torch.bmm(k, q.transpose(1, 2)) / math.sqrt(q.shape[-1])  # (B*nh, T keys, queries)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = dropout(softmax_over_keys(scores))
    return torch.bmm(weights.transpose(1, 2), v)


def softmax_over_keys(scores):
    """scores: (B*nh, T keys, queries), normalised over keys. Few of them go to the front: a third of the time at T=10."""
    if scores.shape[1] < 16:
        return scores.transpose(0, 1).softmax(dim=0).transpose(0, 1)
    return scores.softmax(dim=1)


def pick(x, rows):
    """(B, n, ...) of x (B, T, ...): rows is a slice or indices (n,), the same in every sequence, or each its own (B, n)."""
    if not torch.is_tensor(rows) or rows.dim() == 1:
        return x[:, rows]
    B, T = x.shape[:2]
    return x.flatten(0, 1)[rows + T * torch.arange(B, device=x.device)[:, None]]


class Dropout(nn.Module):
    """Dropout that draws a random byte per entry on the CPU, an eighth of nn.Dropout's cost; p is rounded to 1/256."""

    def __init__(self, p):
        super().__init__()
        self.p, self.threshold = p, min(round(256 * p), 255)

    def forward(self, x):
        if not self.training or self.threshold == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)  # eight bytes a draw
        keep = words.view(torch.uint8)[: x.numel()].ge_(self.threshold).view(x.shape)  # 0 or 1; in place is vectorised
        return x * keep.to(x.dtype).mul_(256 / (256 - self.threshold))


def keep_freed_memory():
    """Tell glibc to keep what tensors free for the next ones; by default a step returns megabytes, and faults them in again."""
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    with contextlib.suppress(OSError, TypeError, AttributeError):  # where there is no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, 2**30)
        mallopt(mmap_threshold, 2**25)  # the largest it takes


keep_freed_memory()
