"""The models: what is hidden never matters, the future never leaks, every part agrees with an independent one."""

import itertools
import math
import os
import pickle

import pytest
import torch
import torch.nn as nn

import masks
import model as models
from attention import pick
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


@pytest.fixture(params=["doorkey", "toy"])
def trajectories(request, doorkey_data, toy_data):
    return doorkey_data if request.param == "doorkey" else toy_data


def build(config, factors, seed=0):
    """A small model in eval mode whose outputs depend on every weight: no layer starts at zero."""
    torch.manual_seed(seed)
    return models.build(ModelConfig(**SMALL | config), factors).eval()


def windows(trajectories, T=CONTEXT, start=2):
    """{factor: (B, T)} of all trajectories from timestep `start`, and "timestep"."""
    values = {name: tensor[:, start : start + T] for name, tensor in trajectories.tensors().items()}
    return values | {"timestep": torch.arange(start, start + T).expand(len(trajectories), T)}


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


def identical(one, other):
    """Whether two dictionaries of outputs agree in every bit (and hold no NaN)."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------------------------------------------------------------
# What is hidden never matters


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_values_of_hidden_entries_never_change_an_output(config, trajectories, generator):
    network, values, B = build(config, trajectories.factors), windows(trajectories), len(trajectories)
    tasks = [task for task in masks.TASKS if masks.can(config["model"], task)]
    assert len(tasks) >= 6
    with torch.inference_mode():
        for task in tasks:
            see, _ = masks.draw(task, B, CONTEXT, generator)
            for mask in (see, masks.hide_factors(see, trajectories.factors, 0.3, generator)):
                keep = masks.expand(mask, trajectories.factors)
                outputs = network(values, mask)
                for seed, number in enumerate((math.nan, math.inf, -1e30)):
                    changed = scrambled(values, keep, trajectories.factors, number, seed)
                    assert identical(network(changed, mask), outputs), f"{task} with {number}"


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_values_of_seen_entries_do_change_the_outputs(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    B = len(trajectories)
    see = {f.name: torch.ones(B, CONTEXT, dtype=torch.bool) for f in trajectories.factors}
    with torch.inference_mode():
        outputs = network(values, see)
        for f in trajectories.factors:
            if config["model"] == "dt" and f.group == "ACTION":
                timesteps = range(CONTEXT - 1)  # nothing is predicted after the last action
            else:
                timesteps = range(CONTEXT)
            for t in timesteps:
                keep = {name: mask.clone() for name, mask in see.items()}
                keep[f.name][:, t] = False
                changed = network(scrambled(values, keep, trajectories.factors, number=0.123), see)
                moved = sum((changed[name] - outputs[name]).abs().flatten(1).sum(dim=1) for name in outputs)  # (B,)
                assert (moved > 1e-6).all(), f"{f.name} at {t}"


@pytest.mark.parametrize("config", [c for c in CONFIGS if c["model"] == "dt"], ids=name_of)
def test_no_later_entry_changes_an_earlier_action_of_decision_gpt(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    B, step = len(trajectories), torch.arange(CONTEXT)
    see = torch.ones(B, CONTEXT, 3, dtype=torch.bool)
    action = next(f.name for f in trajectories.factors if f.group == "ACTION")
    with torch.inference_mode():
        before = network(values, see)[action]
        for t in range(CONTEXT):  # the action at t may depend on returns and states up to t and actions before t
            known = {"STATE": step <= t, "ACTION": step < t, "RETURN": step <= t}
            keep = {f.name: known[f.group].expand(B, CONTEXT) for f in trajectories.factors}
            changed = scrambled(values, keep, trajectories.factors, number=7.0)
            assert torch.equal(network(changed, see)[action][:, : t + 1], before[:, : t + 1]), t
            assert torch.equal(network(changed, keep)[action][:, : t + 1], before[:, : t + 1]), f"hidden after {t}"
            if t + 1 < CONTEXT:
                assert not torch.equal(network(changed, see)[action][:, t + 1], before[:, t + 1])


@pytest.mark.parametrize("config", FAMILIES, ids=name_of)
def test_outputs_have_the_shapes_of_their_factors(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    outputs = network(values, torch.ones(len(trajectories), CONTEXT, 3, dtype=torch.bool))
    predicted = ("ACTION",) if config["model"] == "dt" else ("STATE", "ACTION")
    expected = {f.name: (len(trajectories), CONTEXT, f.size) for f in trajectories.factors if f.group in predicted}
    assert {name: tuple(y.shape) for name, y in outputs.items()} == expected


@pytest.mark.parametrize("config", FAMILIES, ids=name_of)
def test_decoding_some_timesteps_gives_the_same_as_decoding_all(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    see = torch.ones(len(trajectories), CONTEXT, 3, dtype=torch.bool)
    outputs = network(values, see)
    for only in (slice(3, 4), slice(1, 4), torch.tensor([4, 0])):
        for name, y in network(values, see, only=only).items():
            torch.testing.assert_close(y, outputs[name][:, only], rtol=0, atol=1e-6)
    own = torch.arange(2 * len(trajectories)).view(-1, 2) % CONTEXT  # two timesteps of each sequence, others in each
    for name, y in network(values, see, only=own).items():
        expected = outputs[name].take_along_dim(own[..., None], dim=1)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["unimask", "dt"])
def test_a_transformer_takes_shorter_windows_but_no_longer_ones(kind, trajectories):
    network = build(dict(model=kind), trajectories.factors)
    see = lambda T: torch.ones(len(trajectories), T, 3, dtype=torch.bool)
    outputs = network(windows(trajectories, 3), see(3))
    assert all(y.shape[:2] == (len(trajectories), 3) for y in outputs.values())
    with pytest.raises(ValueError, match="6.*5"):
        network(windows(trajectories, 6), see(6))


@pytest.mark.parametrize("T", [4, 6])
def test_the_feed_forward_net_needs_exactly_its_context(T, trajectories):
    network = build(dict(model="nn"), trajectories.factors)
    with pytest.raises(ValueError, match=f"5.*{T}"):
        network(windows(trajectories, T), torch.ones(len(trajectories), T, 3, dtype=torch.bool))


def test_timestep_positions_count_from_the_start_of_the_episode(toy_data):
    network, values = build(dict(positions="timestep"), toy_data.factors), windows(toy_data)
    see = torch.ones(len(toy_data), CONTEXT, 3, dtype=torch.bool)
    later = network(values | {"timestep": values["timestep"] + 1}, see)
    assert not identical(network(values, see), later)


# ---------------------------------------------------------------------------------------------------------------------
# Parity with independent computations


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


def sinusoid(T, d):
    """Position table of "Attention is all you need", in scalars."""
    rows = []
    for t in range(T):
        rows.append([(math.sin if j % 2 == 0 else math.cos)(t / 10000 ** (2 * (j // 2) / d)) for j in range(d)])
    return torch.tensor(rows)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_published_model_agrees_with_one_made_of_pytorch_s_modules(norm, doorkey_data, generator):
    """Masked one-hot factors, hidden ones all zero -> linear -> ReLU -> x sqrt(d) + sinusoid -> encoder -> linear."""
    config = ModelConfig(**SMALL | dict(hidden="zero", norm=norm, dropout=0.0))
    network = build(dict(hidden="zero", norm=norm, dropout=0.0), doorkey_data.factors)
    values, B, d = windows(doorkey_data), len(doorkey_data), config.n_embd
    see, _ = masks.draw("random", B, CONTEXT, generator)
    features = torch.zeros(B, CONTEXT, sum(f.size for f in doorkey_data.factors))
    groups = {"STATE": 0, "ACTION": 1, "RETURN": 2}
    for b, t in itertools.product(range(B), range(CONTEXT)):
        offset = 0
        for f in doorkey_data.factors:
            if see[b, t, groups[f.group]]:
                features[b, t, offset + values[f.name][b, t]] = 1.0
            offset += f.size
    first, last = (
        next(m for m in part.modules() if isinstance(m, nn.Linear)) for part in (network.inputs, network.outputs)
    )
    x = torch.relu(features @ first.weight.T + first.bias) * math.sqrt(d) + sinusoid(CONTEXT, d)
    for block in network.blocks:
        x = torch_layer(block, config)(x)
    x = network.norm(x) if norm == "pre" else x
    expected = torch.cat([y for y in network(values, see).values()], dim=-1)
    torch.testing.assert_close(x @ last.weight.T + last.bias, expected, rtol=1e-5, atol=1e-5)


def test_continuous_features_are_the_value_and_its_octaves(toy_data):
    factor = toy_data.factors[0]
    encoder = models.Encoder([factor], ModelConfig(octaves=3, hidden="zero"))
    values = windows(toy_data)
    see = {factor.name: torch.ones(len(toy_data), CONTEXT, dtype=torch.bool)}
    features = encoder(values, see)
    assert features.shape == (len(toy_data), CONTEXT, encoder.width) == (len(toy_data), CONTEXT, 2 * 7)
    for b, t in ((0, 0), (3, 4), (11, 2)):
        expected = []
        for k in range(2):
            x = (values[factor.name][b, t, k].item() - factor.mean[k]) / factor.std[k]
            expected += [x, *(wave(x * 2**octave) for octave in range(3) for wave in (math.sin, math.cos))]
        torch.testing.assert_close(
            features[b, t].sort().values, torch.tensor(expected).sort().values, rtol=0, atol=1e-4
        )


def test_actions_and_returns_have_no_octaves(toy_data):
    """A sine of the return would tell the training episodes apart."""
    rest = [f for f in toy_data.factors if f.group != "STATE" and f.kind == "continuous"]
    widths = [models.Encoder(rest, ModelConfig(octaves=octaves)).width for octaves in (0, 5)]
    assert rest and widths[0] == widths[1]


def test_predictions_are_in_raw_units(toy_data):
    """A network that says 0 of a normalised factor means its mean."""
    for kind in ("unimask", "nn"):
        network = build(dict(model=kind), toy_data.factors)
        last = list(network.outputs.parameters()) if kind == "unimask" else list(network.layers[-1].parameters())
        for p in last:
            nn.init.zeros_(p)
        outputs = network(windows(toy_data), torch.ones(len(toy_data), CONTEXT, 3, dtype=torch.bool))
        position, action = toy_data.factors[0], toy_data.factors[2]
        assert abs(position.mean[0]) > 1
        assert torch.allclose(outputs["position"], torch.tensor(position.mean).expand_as(outputs["position"]))
        assert action.size == 2 and (outputs["action"] == 0).all()


@pytest.mark.parametrize("kind", ["unimask", "dt", "nn"])
def test_tanh_squashes_actions_and_nothing_else(kind, toy_data):
    plain, squashed = (build(dict(model=kind, tanh_actions=tanh), toy_data.factors) for tanh in (False, True))
    with torch.no_grad():
        for network in (plain, squashed):
            for p in network.parameters():
                p.mul_(1.5)
    values, see = windows(toy_data), torch.ones(len(toy_data), CONTEXT, 3, dtype=torch.bool)
    raw, bounded = plain(values, see), squashed(values, see)
    assert torch.equal(bounded["action"], raw["action"].tanh()) and not torch.equal(bounded["action"], raw["action"])
    assert all(torch.equal(bounded[name], raw[name]) for name in raw if name != "action")


def test_loss_of_a_gaussian_head_is_the_negative_log_density_per_dimension(toy_data):
    network, values = build(dict(head="gaussian"), toy_data.factors), windows(toy_data)
    see = torch.rand(len(toy_data), CONTEXT, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    outputs = network(values, see)
    nats = models.entry_losses(outputs, values, toy_data.factors)
    for f in (f for f in toy_data.factors if f.kind == "continuous" and f.group != "RETURN"):
        density = torch.distributions.Normal(outputs[f.name], (outputs[f"{f.name}/log_variance"] / 2).exp())
        unit = torch.tensor(f.std or (1.0,) * f.size).log().mean()  # the loss is in units of the standard deviation
        expected = -density.log_prob(values[f.name]).mean(dim=-1) - unit
        torch.testing.assert_close(nats[f.name], expected)


def test_a_gaussian_head_learns_mean_and_variance():
    torch.manual_seed(0)
    factors = [models.Factor("x", "STATE", "continuous", 2, (5.0, -3.0), (2.0, 0.1), (1.0, 1.0))]
    data = torch.tensor([4.0, -2.9]) + torch.tensor([3.0, 0.2]) * torch.randn(4000, 1, 2)
    network = build(dict(model="nn", head="gaussian", context=1, n_layer=0), factors)
    see, predict = torch.zeros(2, 4000, 1, 3, dtype=torch.bool).unbind()
    predict = predict | True
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        models.loss(network({"x": data}, see), {"x": data}, predict, factors)[0].backward()
        optimizer.step()
    outputs = network({"x": data[:1]}, see[:1])
    torch.testing.assert_close(outputs["x"][0, 0], data.mean(dim=0)[0], rtol=0.02, atol=0)
    deviation = (outputs["x/log_variance"][0, 0] / 2).exp()
    torch.testing.assert_close(deviation, data.std(dim=0)[0], rtol=0.02, atol=0)


def test_a_median_goes_the_likelier_of_two_ways_where_a_mean_goes_neither():
    factors = [models.Factor("x", "ACTION", "continuous", 1)]
    data = torch.where(torch.arange(1000) % 5 < 3, 1.0, -1.0).view(-1, 1, 1)  # three of five go to 1
    see, predict = torch.zeros(2, 1000, 1, 3, dtype=torch.bool).unbind()
    for head, expected in (("mean", 0.2), ("median", 1.0)):
        torch.manual_seed(0)
        network = build(dict(model="nn", head=head, context=1, n_layer=0), factors)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(600):
            optimizer.zero_grad()
            total, _ = models.loss(network({"x": data}, see), {"x": data}, predict | True, factors, head=head)
            total.backward()
            optimizer.step()
        assert network({"x": data[:1]}, see[:1])["x"].item() == pytest.approx(expected, abs=0.02)
        assert total.item() == pytest.approx({"mean": 0.96, "median": 0.8}[head], abs=0.01)


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


# ---------------------------------------------------------------------------------------------------------------------
# The loss


def loss_by_loops(outputs, values, predict, factors, weights):
    """Mean over the predicted entries of each factor, times its weight, summed: in scalars."""
    total, parts = 0.0, {}
    for f in factors:
        if f.name not in outputs:
            continue
        entries = []
        for b, t in predict[f.name].nonzero().tolist():
            prediction, truth = outputs[f.name][b, t].tolist(), values[f.name][b, t]
            if f.kind == "categorical":
                entries.append(math.log(sum(math.exp(x) for x in prediction)) - prediction[truth.item()])
            else:
                scale = f.std if f.group != "ACTION" else [1.0] * f.size
                errors = [((x - y) / s) ** 2 for x, y, s in zip(prediction, truth.tolist(), scale)]
                entries.append(sum(errors) / len(errors))
        parts[f.name] = sum(entries) / len(entries) if entries else 0.0
        total += weights.get(f.name, 1.0) * parts[f.name]
    return total, parts


def some_outputs(trajectories, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(trajectories), CONTEXT)
    return {
        f.name: torch.randn(*shape, f.size, generator=generator) for f in trajectories.factors if f.group != "RETURN"
    }


@pytest.mark.parametrize("task", ["random", "behavior_cloning", "past", "forward_dynamics", "all"])
@pytest.mark.parametrize("weights", [{}, {"action": 0.3, "key_pos": 0.0, "room": 2.0}])
def test_loss_agrees_with_loops(task, weights, trajectories, generator):
    values, outputs = windows(trajectories), some_outputs(trajectories)
    _, predict = masks.draw(task, len(trajectories), CONTEXT, generator)
    per_factor = masks.expand(predict, trajectories.factors)
    for mask in (predict, per_factor, masks.hide_factors(per_factor, trajectories.factors, 0.5, generator)):
        total, parts = models.loss(outputs, values, mask, trajectories.factors, weights)
        expected, expected_parts = loss_by_loops(
            outputs, values, masks.expand(mask, trajectories.factors), trajectories.factors, weights
        )
        assert total.item() == pytest.approx(expected, rel=1e-4)
        assert {name: x.item() for name, x in parts.items()} == pytest.approx(expected_parts, rel=1e-4)


def test_loss_ignores_what_is_not_predicted(trajectories, generator):
    values, outputs = windows(trajectories), some_outputs(trajectories)
    _, predict = masks.draw("behavior_cloning", len(trajectories), CONTEXT, generator)
    keep = masks.expand(predict, trajectories.factors)
    total, parts = models.loss(outputs, values, predict, trajectories.factors)
    other_outputs = {name: torch.where(keep[name][..., None], y, math.nan) for name, y in outputs.items()}
    other_values = scrambled(values, keep, trajectories.factors)
    again, again_parts = models.loss(other_outputs, other_values, predict, trajectories.factors)
    assert torch.equal(total, again) and identical(parts, again_parts)


def test_gradients_ignore_what_is_not_predicted(toy_data, generator):
    """Values that are neither seen nor predicted may be missing (NaN), in training too."""
    network, values = build(dict(dropout=0.0), toy_data.factors), windows(toy_data)
    see, predict = masks.draw("behavior_cloning", len(toy_data), CONTEXT, generator)
    keep = masks.expand(see | predict, toy_data.factors)
    gradients = []
    for batch in (values, scrambled(values, keep, toy_data.factors)):
        network.zero_grad()
        models.loss(network(batch, see), batch, predict, toy_data.factors)[0].backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})
    assert identical(*gradients)


@pytest.mark.parametrize("task", masks.ONE_TIMESTEP)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoding_only_the_predicted_timestep_trains_the_same(task, norm, toy_data, generator):
    network, values = build(dict(dropout=0.0, norm=norm), toy_data.factors), windows(toy_data)
    see, predict = masks.draw(task, len(toy_data), CONTEXT, generator)
    assert (predict.any(dim=-1).sum(dim=1) == 1).all()
    only, gradients = masks.asked_timestep(predict), []
    for part in (slice(None), only):
        network.zero_grad()
        truth = {name: pick(x, part) for name, x in values.items()}
        models.loss(network(values, see, part), truth, pick(predict, part), toy_data.factors)[0].backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)


def test_loss_of_nothing_is_zero(trajectories):
    values, outputs = windows(trajectories), some_outputs(trajectories)
    nothing = torch.zeros(len(trajectories), CONTEXT, 3, dtype=torch.bool)
    total, parts = models.loss(outputs, values, nothing, trajectories.factors)
    assert total.item() == 0 and all(part.item() == 0 for part in parts.values())


def test_loss_of_the_truth_is_zero_and_returns_never_count(trajectories):
    values = windows(trajectories)
    everything = torch.ones(len(trajectories), CONTEXT, 3, dtype=torch.bool)
    truth = {
        f.name: 100.0 * nn.functional.one_hot(values[f.name], f.size) if f.kind == "categorical" else values[f.name]
        for f in trajectories.factors
        if f.group != "RETURN"
    }
    total, parts = models.loss(truth, values, everything, trajectories.factors)
    assert total.item() == pytest.approx(0, abs=1e-6) and "return_to_go" not in parts


# ---------------------------------------------------------------------------------------------------------------------
# Settings, size, optimiser


@pytest.mark.parametrize(
    "key, value",
    [
        ("model", "gpt"),
        ("layout", "stacked"),
        ("hidden", "mask"),
        ("positions", "rotary"),
        ("norm", "rms"),
        ("context", 0),
        ("n_layer", -1),
        ("n_head", 0),
        ("n_embd", 0),
        ("n_ff", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("octaves", -1),
        ("n_head", 3),
        ("n_embd", 33),
        ("max_timestep", 0),
        ("dropout", math.nan),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"{key}='?{value}"):
        ModelConfig(**{key: value})


def test_number_of_parameters_is_that_of_the_formula(doorkey_data):
    inputs, outputs, d, ff, layers = 16 + 16 + 4 + 17, 16 + 16 + 4, 16, 24, 2
    block = 3 * d * d + 3 * d + d * d + d + 2 * 2 * d + 2 * d * ff + ff + d
    transformer = (inputs + 1) * d + layers * block + (d + 1) * outputs
    assert models.num_params(build(dict(hidden="zero"), doorkey_data.factors)) == transformer
    assert models.num_params(build(dict(hidden="flag"), doorkey_data.factors)) == transformer + 4 * d
    assert (
        models.num_params(build(dict(hidden="zero", positions="learned"), doorkey_data.factors)) == transformer + 5 * d
    )
    net = (inputs * CONTEXT + 1) * d + (d + 1) * d + (d + 1) * outputs * CONTEXT
    assert models.num_params(build(dict(model="nn", hidden="zero"), doorkey_data.factors)) == net


@pytest.mark.parametrize("config", FAMILIES + [dict(positions="learned"), dict(positions="timestep")], ids=name_of)
def test_weight_decay_shrinks_matrices_only(config, doorkey_data):
    network = build(config, doorkey_data.factors)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = models.configure_optimizer(network, learning_rate=0.1, weight_decay=0.5)
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    matrices = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    assert len(matrices) >= 3
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if name in matrices else 1.0), msg=name)


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


def saved(folder, config, factors, name="best.pt", seed=0):
    network = build(config, factors, seed)
    torch.save(models.to_plain(network), os.path.join(folder, name))
    return network


@pytest.mark.parametrize("config", FAMILIES + [CONFIGS[5], CONFIGS[-2]], ids=name_of)
def test_a_saved_model_comes_back_the_same(config, trajectories, tmp_path, generator):
    network = saved(tmp_path, config, trajectories.factors)
    values = windows(trajectories)
    task = "behavior_cloning" if config["model"] == "dt" else "random"
    see, _ = masks.draw(task, len(trajectories), CONTEXT, generator)
    for path in (tmp_path, tmp_path / "best.pt", str(tmp_path)):
        loaded = models.load(path)
        assert not loaded.training
        assert loaded.factors == network.factors and loaded.config == network.config
        assert identical(loaded(values, see), network(values, see))


def test_checkpoints_hold_tensors_and_plain_data_only(toy_data, tmp_path):
    saved(tmp_path, {}, toy_data.factors)
    assert isinstance(torch.load(tmp_path / "best.pt", weights_only=True), dict)


def test_the_best_checkpoint_of_a_folder_is_preferred(doorkey_data, tmp_path):
    last = saved(tmp_path, {}, doorkey_data.factors, "ckpt.pt", seed=1)
    same = lambda a, b: identical(a.state_dict(), b.state_dict())
    assert same(models.load(tmp_path), last)
    best = saved(tmp_path, {}, doorkey_data.factors, "best.pt", seed=2)
    assert same(models.load(tmp_path), best) and not same(best, last)
    assert same(models.load(tmp_path / "ckpt.pt"), last)


class Payload:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def one_sentence(path, match):
    """Loading raises a ValueError that names the path, without a line break."""
    with pytest.raises(ValueError, match=match) as error:
        models.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_checkpoints_are_refused(tmp_path):
    one_sentence(tmp_path / "no.pt", "there is no checkpoint")
    one_sentence(tmp_path, "there is no checkpoint")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_checkpoints_are_refused(share, doorkey_data, tmp_path):
    saved(tmp_path, {}, doorkey_data.factors)
    whole = (tmp_path / "best.pt").read_bytes()
    (tmp_path / "part.pt").write_bytes(whole[: int(share * len(whole))])
    one_sentence(tmp_path / "part.pt", "not a whole checkpoint")


@pytest.mark.parametrize("content", [b"garbage", b"\x80\x02garbage", b"PK\x03\x04garbage", b"{}", bytes(1000)])
def test_garbage_is_refused(content, tmp_path):
    (tmp_path / "bad.pt").write_bytes(content)
    one_sentence(tmp_path / "bad.pt", "bad.pt")


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_refused_and_not_run(save, tmp_path):
    save({"model_config": {}, "weights": Payload(tmp_path / "executed")}, tmp_path / "bad.pt")
    one_sentence(tmp_path / "bad.pt", "bad.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: [1, 2, 3],
        lambda plain: {"weights": plain["weights"]},
        lambda plain: {key: value for key, value in plain.items() if key != "factors"},
        lambda plain: {key: value for key, value in plain.items() if key != "weights"},
        lambda plain: plain | {"model_config": plain["model_config"] | {"n_embd": 32}},
        lambda plain: plain | {"model_config": plain["model_config"] | {"model": "gpt"}},
        lambda plain: plain | {"model_config": plain["model_config"] | {"wings": 2}},
        lambda plain: plain | {"weights": dict(list(plain["weights"].items())[1:])},
    ],
    ids=[
        "a list",
        "no config",
        "no factors",
        "no weights",
        "another width",
        "unknown model",
        "unknown setting",
        "a weight short",
    ],
)
def test_checkpoints_that_are_not_ours_are_refused(damage, doorkey_data, tmp_path):
    torch.save(damage(models.to_plain(build({}, doorkey_data.factors))), tmp_path / "bad.pt")
    one_sentence(tmp_path / "bad.pt", "bad.pt")
