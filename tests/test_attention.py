"""The blocks of the transformer: parity with PyTorch's layer, and dropout that is as random as it says."""

import math

import pytest
import torch
import torch.nn as nn
from small import CONTEXT, FAMILIES, build, identical, name_of, torch_layer, windows

import model as models
from attention import pick
from model import ModelConfig


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("d, nh, T", [(16, 2, 7), (24, 1, 1), (32, 8, 12), (32, 4, 21), (16, 2, 70)])
def test_block_agrees_with_pytorch_s_transformer_layer(norm, causal, d, nh, T):
    torch.manual_seed(0)
    config = ModelConfig(n_embd=d, n_head=nh, n_ff=20, dropout=0.0, norm=norm)
    block = models.Block(config)
    with torch.no_grad():
        for p in block.parameters():  # norms and biases too: at their start they are ones and zeros
            p.add_(0.3 * torch.randn_like(p))
    x = torch.randn(3, T, d)
    mask = nn.Transformer.generate_square_subsequent_mask(T) if causal else None
    expected = torch_layer(block, config)(x, src_mask=mask, is_causal=causal)
    torch.testing.assert_close(block(x, causal), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("T", [12, 70])
def test_a_block_may_compute_only_the_tokens_that_are_wanted(causal, T, generator):
    block, x = models.Block(ModelConfig(n_embd=16, n_head=2, n_ff=20, dropout=0.0)), torch.randn(3, T, 16)
    for rows in (slice(4, 9), torch.tensor([T - 1, 0]), torch.randint(T, (3, 2), generator=generator)):
        torch.testing.assert_close(block(x, causal, rows), pick(block(x, causal), rows), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_entries_at_its_rate(p):
    torch.manual_seed(0)
    n = 400_000
    dropped = models.Dropout(p).train()(torch.full((n // 8, 8), 3.0))
    rate = (dropped == 0).double().mean().item()
    rounded = round(256 * p) / 256
    assert abs(rounded - p) <= 1 / 512 and abs(rate - rounded) < 5 * math.sqrt(p * (1 - p) / n)
    assert dropped.unique().numel() == 2
    assert abs(dropped.double().mean().item() - 3) < 5 * 3 * math.sqrt(p / (1 - p) / n)


def test_dropout_drops_each_entry_on_its_own():
    torch.manual_seed(0)
    n = 100_000
    dropped = (models.Dropout(0.5).train()(torch.ones(n, 16)) == 0).double()
    assert (dropped.mean(dim=0) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(n)
    correlation = torch.corrcoef(dropped.T) - torch.eye(16)
    assert correlation.abs().max() < 5 / math.sqrt(n)
    rows = torch.corrcoef(torch.stack([dropped[:-1].flatten(), dropped[1:].flatten()]))[0, 1]
    assert abs(rows) < 5 / math.sqrt(16 * n)


@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (2, 9)])
def test_dropout_takes_any_shape_and_is_reproducible(shape):
    x = torch.ones(shape[::-1]).permute(*reversed(range(len(shape))))  # not contiguous
    outcomes = []
    for _ in range(2):
        torch.manual_seed(3)
        outcomes.append(models.Dropout(0.4).train()(x))
    assert outcomes[0].shape == shape and torch.equal(*outcomes)


def test_dropout_passes_gradients_of_what_it_kept():
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    y = models.Dropout(0.25).train()(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_is_the_identity_in_evaluation_and_at_zero():
    x = torch.randn(50, 3)
    assert torch.equal(models.Dropout(0.5).eval()(x), x)
    assert torch.equal(models.Dropout(0.0).train()(x), x)


@pytest.mark.parametrize("p", [0.998, 0.999])
def test_the_largest_dropout_that_is_accepted_works(p):
    assert models.Dropout(ModelConfig(dropout=p).dropout).train()(torch.ones(1000)).isfinite().all()


@pytest.mark.parametrize("config", FAMILIES, ids=name_of)
def test_dropout_acts_in_training_only(config, doorkey_data):
    network, values = build(config, doorkey_data.factors), windows(doorkey_data)
    see = torch.ones(len(doorkey_data), CONTEXT, 3, dtype=torch.bool)
    assert identical(network(values, see), network(values, see))
    network.train()
    assert not identical(network(values, see), network(values, see))
