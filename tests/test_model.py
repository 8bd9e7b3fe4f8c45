"""The models: the hidden never matters, the future never leaks, every part agrees with another."""

import itertools
import math
import subprocess
import sys

import pytest
import torch
import torch.nn as nn
from conftest import ROOT
from small import (
    CONFIGS,
    CONTEXT,
    FAMILIES,
    KINDS,
    SMALL,
    VALUES,
    all_seen,
    build,
    identical,
    name_of,
    scrambled,
    torch_layer,
    windows,
)

import masks
import model
from data import Factor
from model import ModelConfig


def test_the_models_of_these_tests_cover_every_pair_of_settings():
    for kind in ("unimask", "dt"):
        ours = [c for c in CONFIGS if c["model_type"] == kind and "norm" in c]
        names = [name for name in VALUES if all(name in config for config in ours)]
        for one, other in itertools.combinations(names, 2):
            pairs = {(config[one], config[other]) for config in ours}
            assert pairs == set(itertools.product(VALUES[one], VALUES[other]))


# --------------------------------------------------------------------------------------------------
# What is hidden never matters


def some_masks(trajectories, generator):
    """Masks of every kind: of groups, of single factors, everything and nothing hidden."""
    B, random = len(trajectories), torch.rand(len(trajectories), generator=generator)
    groups, _ = masks.draw("random", B, CONTEXT, generator)
    past, _ = masks.draw("past", B, CONTEXT, generator)
    entries = {
        f.name: torch.rand(B, CONTEXT, generator=generator) < random[:, None]
        for f in trajectories.factors
    }
    return groups, past, entries, torch.zeros_like(groups), torch.ones_like(groups)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_values_of_hidden_entries_never_change_an_output(config, trajectories, generator):
    network, values = build(config, trajectories.factors), windows(trajectories)
    at = torch.arange(len(trajectories)) % CONTEXT
    with torch.inference_mode():
        for see in some_masks(trajectories, generator):
            keep = masks.expand(see, trajectories.factors)
            outputs, one = network(values, see), network(values, see, at)
            for seed, number in enumerate((math.nan, math.inf, -1e30)):
                changed = scrambled(values, keep, trajectories.factors, number, seed)
                assert identical(network(changed, see), outputs), number
            assert identical(network(changed, see, at), one)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_values_of_seen_entries_do_change_the_outputs(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    see = masks.expand(all_seen(trajectories), trajectories.factors)
    with torch.inference_mode():
        outputs = network(values, see)
        for f, t in itertools.product(trajectories.factors, range(CONTEXT)):
            if config["model_type"] == "dt" and f.group == "ACTION" and t == CONTEXT - 1:
                continue  # nothing is predicted after the last action
            keep = {name: mask.clone() for name, mask in see.items()}
            keep[f.name][:, t] = False
            changed = network(scrambled(values, keep, trajectories.factors, number=0.123), see)
            moved = [(changed[name] - y).abs().flatten(1).sum(dim=1) for name, y in outputs.items()]
            assert (sum(moved) > 1e-6).all(), f"{f.name} at {t}"


@pytest.mark.parametrize("config", [c for c in CONFIGS if c["model_type"] == "dt"], ids=name_of)
def test_no_later_entry_changes_an_earlier_action_of_decision_gpt(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    B, step = len(trajectories), torch.arange(CONTEXT)
    see = all_seen(trajectories)
    with torch.inference_mode():
        before = network(values, see)
        for t in range(CONTEXT):  # the action at t: returns and states up to t, actions before t
            known = {"STATE": step <= t, "ACTION": step < t, "RETURN": step <= t}
            keep = {f.name: known[f.group].expand(B, CONTEXT) for f in trajectories.factors}
            changed = scrambled(values, keep, trajectories.factors, number=7.0)
            after, hidden = network(changed, see), network(changed, keep)
            one = network(changed, see, torch.full((B,), t))
            for name, y in before.items():
                assert torch.equal(after[name][:, : t + 1], y[:, : t + 1]), f"{name} at {t}"
                assert torch.equal(hidden[name][:, : t + 1], y[:, : t + 1]), f"hidden after {t}"
                torch.testing.assert_close(one[name], y[:, t : t + 1], rtol=0, atol=1e-6)
                assert t + 1 == CONTEXT or not torch.equal(after[name][:, t + 1], y[:, t + 1])


# --------------------------------------------------------------------------------------------------
# What comes out


@pytest.mark.parametrize("config", FAMILIES, ids=name_of)
def test_outputs_have_the_shapes_of_their_factors(config, trajectories):
    network = build(config, trajectories.factors)
    outputs = network(windows(trajectories), all_seen(trajectories))
    groups = ("ACTION",) if config["model_type"] == "dt" else ("STATE", "ACTION")
    predicted = [f for f in trajectories.factors if f.group in groups]
    expected = {f.name: (len(trajectories), CONTEXT, f.size) for f in predicted}
    assert {name: tuple(y.shape) for name, y in outputs.items()} == expected
    assert network.predicted == predicted


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_one_wanted_timestep_is_the_same_as_that_of_all(config, trajectories, generator):
    network, values = build(config, trajectories.factors), windows(trajectories)
    see, _ = masks.draw("random", len(trajectories), CONTEXT, generator)
    at = torch.randint(CONTEXT, (len(trajectories),), generator=generator)
    with torch.inference_mode():
        outputs, one = network(values, see), network(values, see, at)
    assert one.keys() == outputs.keys() and len(at.unique()) == CONTEXT
    for name, y in outputs.items():
        expected = y[torch.arange(len(at)), at][:, None]
        torch.testing.assert_close(one[name], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["unimask", "dt"])
def test_a_transformer_takes_shorter_windows_but_no_longer_ones(kind, trajectories):
    network = build(dict(model_type=kind), trajectories.factors)
    outputs = network(windows(trajectories, 3), all_seen(trajectories, 3))
    assert all(y.shape[:2] == (len(trajectories), 3) for y in outputs.values())
    with pytest.raises(ValueError, match="6.*5"):
        network(windows(trajectories, 6), all_seen(trajectories, 6))


@pytest.mark.parametrize("T", [4, 6])
def test_the_feed_forward_net_needs_exactly_its_context(T, trajectories):
    network = build(dict(model_type="nn"), trajectories.factors)
    with pytest.raises(ValueError, match=f"5.*{T}"):
        network(windows(trajectories, T), all_seen(trajectories, T))


def test_timestep_positions_count_from_the_start_of_the_episode(toy_data):
    network, values = build(dict(positions="timestep"), toy_data.factors), windows(toy_data)
    see, begin = all_seen(toy_data), values["timestep"]
    at = lambda timestep: network(values | {"timestep": timestep}, see)
    assert not identical(at(begin), at(begin + 1))
    assert identical(at(begin + 100), at(begin + 200))  # beyond max_timestep all is one


def test_predictions_are_in_raw_units(toy_data):
    """A network that says 0 of a normalised factor means its mean."""
    for kind in ("unimask", "nn"):
        network = build(dict(model_type=kind), toy_data.factors)
        last = network.heads if kind == "unimask" else network.layers[-1]
        for p in last.parameters():
            nn.init.zeros_(p)
        outputs = network(windows(toy_data), all_seen(toy_data))
        position, _, action, _ = toy_data.factors
        assert abs(position.mean[0]) > 1
        for f in (position, action):
            expected = torch.tensor(f.mean).expand_as(outputs[f.name])
            assert torch.allclose(outputs[f.name], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_tanh_squashes_actions_and_nothing_else(kind, toy_data):
    outputs = []
    for tanh in (False, True):
        network = build(dict(model_type=kind, tanh_actions=tanh), toy_data.factors)
        with torch.no_grad():
            for p in network.parameters():
                p.mul_(1.5)
        outputs.append(network(windows(toy_data), all_seen(toy_data)))
    raw, bounded = outputs
    assert torch.equal(bounded["action"], raw["action"].tanh())
    assert not torch.equal(bounded["action"], raw["action"])
    assert all(torch.equal(bounded[name], raw[name]) for name in raw if name != "action")


# --------------------------------------------------------------------------------------------------
# Parity with independent computations


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("B", [3, 4])  # an even number of short sequences is computed in pairs
@pytest.mark.parametrize("d, nh, T", [(16, 2, 7), (24, 1, 1), (32, 4, 21), (16, 2, 70)])
def test_block_agrees_with_pytorch_s_transformer_layer(norm, causal, B, d, nh, T, generator):
    torch.manual_seed(0)
    config = ModelConfig(n_embd=d, n_head=nh, n_ff=20, dropout=0.0, norm=norm)
    block = model.Block(config)
    with torch.no_grad():
        for p in block.parameters():  # norms and biases too: at their start they are ones and zeros
            p.add_(0.3 * torch.randn_like(p))
    x = torch.randn(B, T, d)
    future = nn.Transformer.generate_square_subsequent_mask(T) if causal else None
    expected = torch_layer(block, config)(x, src_mask=future, is_causal=causal)
    mask = torch.ones(1, T, T).tril().bool() if causal else None
    torch.testing.assert_close(block(x, mask), expected, rtol=1e-5, atol=1e-5)
    rows = torch.randint(T, (B, 2), generator=generator)  # only some of the tokens ask
    mask = mask[0][rows] if causal else None
    expected = expected[torch.arange(B)[:, None], rows]
    torch.testing.assert_close(block(x, mask, rows), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("T", "n"), [(5, 5), (10, 1)])
def test_attention_written_as_sums_is_attention(T, n, generator):
    q, k, v = (torch.randn(6, rows, 4, generator=generator) for rows in (n, T, T))
    none = model.Dropout(0.0)
    torch.testing.assert_close(
        model.attend_by_sums(q, k, v, none), model.attend(q, k, v, None, none)
    )


@pytest.mark.parametrize("causal", [False, True])
def test_one_token_asks_as_it_does_among_all(causal, generator):
    attention = model.Attention(ModelConfig(n_embd=16, n_head=4, dropout=0.0)).double()
    random = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)
    x, weight, t = random(6, 7, 16).requires_grad_(), random(6, 1, 16), torch.arange(7)
    rows = torch.randint(7, (6, 1), generator=generator)
    every, some = (
        (t <= t[:, None])[None] if causal else None,
        t <= rows[..., None] if causal else None,
    )
    among, alone = model.gather(attention(x, every), rows), attention(x, some, rows)
    torch.testing.assert_close(alone, among)
    wanted = [x, *attention.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), wanted) for y in (alone, among))):
        torch.testing.assert_close(a, b)


def test_sequences_never_change_each_other_s_outputs(generator):
    attention = model.Attention(ModelConfig(n_embd=16, n_head=2, dropout=0.0))
    x = torch.randn(4, 5, 16, generator=generator)
    for other in range(1, 4):
        changed = x.clone()
        changed[other] = 100 * torch.randn(5, 16, generator=generator)
        assert torch.equal(attention(changed)[0], attention(x)[0])
        assert not torch.equal(attention(changed)[other], attention(x)[other])


def sinusoid(T, d):
    """Position table of "Attention is all you need", in scalars."""
    wave = lambda t, j: (math.cos if j % 2 else math.sin)(t / 10000 ** (2 * (j // 2) / d))
    return torch.tensor([[wave(t, j) for j in range(d)] for t in range(T)])


def one_hot(token, values, see):
    """(B, T, width) the classes of some factors, all zeros where they are hidden: by a loop."""
    B, T = values[token[0].name].shape
    features = torch.zeros(B, T, sum(f.size for f in token))
    groups = {"STATE": 0, "ACTION": 1, "RETURN": 2}
    for b, t in itertools.product(range(B), range(T)):
        offset = 0
        for f in token:
            if see[b, t, groups[f.group]]:
                features[b, t, offset + values[f.name][b, t]] = 1.0
            offset += f.size
    return features


PUBLISHED = dict(hidden="zero", dropout=0.0)
TOKENS = {  # the factors of each token, and which of them it predicts
    "unimask-timestep": [(["agent_pos", "key_pos", "action", "return_to_go"], 3)],
    "unimask-factor": [(["return_to_go"], 0), (["agent_pos", "key_pos"], 2), (["action"], 1)],
    "unimask-entry": [(["agent_pos"], 1), (["key_pos"], 1), (["action"], 1), (["return_to_go"], 0)],
    "dt-timestep": [(["return_to_go"], 0), (["agent_pos", "key_pos"], 1), (["action"], 0)],
}


@pytest.mark.parametrize("norm, embedding", [("post", "relu"), ("pre", "relu"), ("pre", "norm")])
@pytest.mark.parametrize("layout", TOKENS)
def test_the_model_agrees_with_one_made_of_pytorch_s_modules(
    layout, norm, embedding, doorkey_data, generator
):
    """One-hot classes -> linear -> ReLU -> x sqrt(d) + sinusoid -> encoder -> linear.

    Decision-GPT's: -> linear -> LayerNorm + learned positions -> encoder -> linear.
    """
    settings = dict(zip(("model_type", "layout"), layout.split("-")), norm=norm) | PUBLISHED
    settings |= {"positions": "learned", "embedding": "norm"} if embedding == "norm" else {}
    config = ModelConfig(**SMALL | settings)
    network = build(settings, doorkey_data.factors)
    values, B, d = windows(doorkey_data), len(doorkey_data), config.n_embd
    see, _ = masks.draw("random", B, CONTEXT, generator)
    factors = {f.name: f for f in doorkey_data.factors}
    tokens = [[factors[name] for name in names] for names, _ in TOKENS[layout]]
    parts = []
    for token, embed in zip(tokens, network.embedding):
        parts.append(one_hot(token, values, see) @ embed.weight.T + embed.bias)
    x = torch.stack(parts, dim=2).view(B, -1, d)  # the tokens of a timestep beside each other
    if embedding == "norm":
        norms = network.embedding_norm
        x = nn.functional.layer_norm(x, (d,), norms.weight, norms.bias) + network.position
    else:
        x = x.relu() * math.sqrt(d) + sinusoid(x.shape[1], d)
    causal = config.model_type == "dt"
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if causal else None
    for block in network.blocks:
        x = torch_layer(block, config)(x, src_mask=mask, is_causal=causal)
    x = network.norm(x) if norm == "pre" else x
    places = [i for i, (_, predicts) in enumerate(TOKENS[layout]) if predicts]
    x = x.view(B, CONTEXT, len(tokens), d)
    expected = [x[:, :, i] @ h.weight.T + h.bias for i, h in zip(places, network.heads)]
    outputs = torch.cat(list(network(values, see).values()), dim=-1)
    torch.testing.assert_close(outputs, torch.cat(expected, dim=-1), rtol=1e-5, atol=1e-5)


def test_continuous_features_are_the_value_and_its_fourier_features(toy_data):
    factor = toy_data.factors[0]
    features = model.Features([factor], ModelConfig(fourier_features=3, hidden="zero"))
    values, see = windows(toy_data), all_seen(toy_data)
    numbers = features(values, masks.expand(see, [factor]))
    assert numbers.shape == (len(toy_data), CONTEXT, 2 * 7) and features.width == 2 * 7
    for b, t in ((0, 0), (3, 4), (11, 2)):
        expected = []
        for k in range(2):
            x = (values[factor.name][b, t, k].item() - factor.mean[k]) / factor.std[k]
            waves = [wave(x * 2**n) for n in range(3) for wave in (math.sin, math.cos)]
            expected += [x, *waves]
        expected = torch.tensor(expected).sort().values
        torch.testing.assert_close(numbers[b, t].sort().values, expected, rtol=0, atol=1e-4)


def test_differences_are_those_of_states_seen_one_after_the_other(toy_data, generator):
    factor = toy_data.factors[0]
    features = model.Features([factor], ModelConfig(differences=True, hidden="flag"))
    values, see = windows(toy_data), torch.rand(len(toy_data), CONTEXT, generator=generator) < 0.5
    numbers = features(values, {factor.name: see})
    assert numbers.shape[-1] == features.width == 2 * (2 + 1)
    x, scale = values[factor.name], torch.tensor(factor.step_std)
    for b, t in itertools.product(range(len(toy_data)), range(CONTEXT)):
        both = t > 0 and bool(see[b, t] and see[b, t - 1])
        change = (x[b, t] - x[b, t - 1]) / scale if both else torch.zeros(2)
        torch.testing.assert_close(numbers[b, t, 3:5], change)
        assert numbers[b, t, 2] == (not see[b, t]) and numbers[b, t, 5] == (not both)


def test_actions_and_returns_have_no_fourier_features(toy_data):
    """A sine of the return would tell the training episodes apart."""
    rest = [f for f in toy_data.factors if f.group != "STATE" and f.kind == "continuous"]
    widths = [model.Features(rest, ModelConfig(fourier_features=n)).width for n in (0, 5)]
    assert rest and widths[0] == widths[1]


def test_the_published_start_is_that_of_the_input_and_output_layers_alone(doorkey_data):
    ours, published = (build(dict(init_range=x), doorkey_data.factors) for x in (0.0, 0.1))
    for (name, p), (_, start) in zip(ours.named_parameters(), published.named_parameters()):
        if not name.startswith(("embedding.", "heads.")):
            assert torch.equal(p, start), name
        elif name.endswith("bias"):
            assert (start == 0).all() and not (p == 0).any(), name
        else:
            assert 0.09 < start.abs().max() <= 0.1 < p.abs().max() and start.std() > 0.05, name


def test_the_positions_of_decision_gpt_start_small(doorkey_data):
    settings = [("relu", "learned", 1), ("norm", "learned", 0.02), ("norm", "timestep", 1)]
    for embedding, positions, expected in settings:
        shape = dict(context=20, n_embd=64, embedding=embedding, positions=positions)
        spread = build(shape, doorkey_data.factors).position.std().item()
        assert spread == pytest.approx(expected, rel=0.1)


# --------------------------------------------------------------------------------------------------
# Dropout


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_entries_at_its_rate(p):
    torch.manual_seed(0)
    n = 400_000
    dropped = model.Dropout(p).train()(torch.full((n // 8, 8), 3.0))
    rate = (dropped == 0).double().mean().item()
    rounded = round(256 * p) / 256 or p
    assert abs(rounded - p) <= 1 / 512 and abs(rate - rounded) < 5 * math.sqrt(p * (1 - p) / n)
    assert dropped.unique().numel() == 2
    assert abs(dropped.double().mean().item() - 3) < 5 * 3 * math.sqrt(p / (1 - p) / n)


def test_dropout_drops_each_entry_on_its_own():
    torch.manual_seed(0)
    n = 100_000
    dropped = (model.Dropout(0.5).train()(torch.ones(n, 16)) == 0).double()
    assert (dropped.mean(dim=0) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(n)
    correlation = torch.corrcoef(dropped.T) - torch.eye(16)
    assert correlation.abs().max() < 5 / math.sqrt(n)
    rows = torch.corrcoef(torch.stack([dropped[:-1].flatten(), dropped[1:].flatten()]))[0, 1]
    assert abs(rows) < 5 / math.sqrt(16 * n)


@pytest.mark.parametrize("shape", [(1,), (3, 5, 7)])
def test_dropout_takes_any_shape_and_is_reproducible(shape):
    x = torch.ones(shape[::-1]).permute(*reversed(range(len(shape))))  # not contiguous
    outcomes = []
    for _ in range(2):
        torch.manual_seed(3)
        outcomes.append(model.Dropout(0.4).train()(x))
    assert outcomes[0].shape == shape and torch.equal(*outcomes)


def test_dropout_passes_gradients_of_what_it_kept():
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    y = model.Dropout(0.25).train()(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_is_the_identity_in_evaluation_and_at_zero():
    x = torch.randn(50, 3)
    assert torch.equal(model.Dropout(0.5).eval()(x), x)
    assert torch.equal(model.Dropout(0.0).train()(x), x)


def test_the_largest_dropout_that_is_accepted_works():
    dropout = model.Dropout(ModelConfig(dropout=0.999).dropout).train()
    assert dropout(torch.ones(1000)).isfinite().all()


@pytest.mark.parametrize("config", FAMILIES, ids=name_of)
def test_dropout_acts_in_training_only(config, doorkey_data):
    network, values = build(config, doorkey_data.factors), windows(doorkey_data)
    see = all_seen(doorkey_data)
    assert identical(network(values, see), network(values, see))
    network.train()
    assert not identical(network(values, see), network(values, see))


# --------------------------------------------------------------------------------------------------
# Answers as distributions


def test_a_categorical_answer_is_a_softmax_of_logits_over_the_temperature(generator):
    f = Factor("room", "STATE", "categorical", 4)
    logits = torch.randn(3, 2, 4, generator=generator)
    for temperature in (1.0, 0.5, 3.0):
        answer = model.distribution(f, {"room": logits}, temperature)
        expected = (logits.double() / temperature).softmax(dim=-1)
        torch.testing.assert_close(answer.probs, expected)
        assert answer.probs.dtype == torch.float64


def test_a_gaussian_answer_has_its_own_variance_and_a_mean_has_none(generator):
    f = Factor("x", "STATE", "continuous", 2)
    mean, log_variance, x = torch.randn(3, 5, 2, generator=generator)
    outputs = {"x": mean, "x/log_variance": log_variance}
    for temperature in (1.0, 0.25):
        answer = model.distribution(f, outputs, temperature)
        variance = temperature * log_variance.double().exp()
        squares = (x - mean).double() ** 2 / variance
        expected = -0.5 * (squares + variance.log() + math.log(2 * math.pi)).sum(dim=-1)
        torch.testing.assert_close(answer.log_prob(x), expected)
    assert model.distribution(f, {"x": mean}) is None


# --------------------------------------------------------------------------------------------------
# Settings, size, optimiser


@pytest.mark.parametrize(
    "key, value",
    [
        ("model_type", "gpt"),
        ("layout", "stacked"),
        ("hidden", "mask"),
        ("positions", "rotary"),
        ("norm", "rms"),
        ("embedding", "linear"),
        ("init_range", -0.1),
        ("head", "mode"),
        ("context", 0),
        ("n_layer", 0),
        ("n_head", 0),
        ("n_embd", 0),
        ("n_ff", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", math.nan),
        ("fourier_features", -1),
        ("fourier_features", 64),
        ("n_head", 3),
        ("n_embd", 33),
        ("max_timestep", 0),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"{key}='?{value}"):
        ModelConfig(**{key: value})


def test_number_of_parameters_is_that_of_the_formula(doorkey_data):
    inputs, outputs, d, ff, layers = 16 + 16 + 4 + 17, 16 + 16 + 4, 16, 24, 2
    block = 3 * d * d + 3 * d + d * d + d + 2 * 2 * d + 2 * d * ff + ff + d
    transformer = (inputs + 1) * d + layers * block + 2 * d + (d + 1) * outputs
    net = (inputs * CONTEXT + 1) * d + (d + 1) * d + (d + 1) * outputs * CONTEXT
    sizes = [
        (dict(hidden="zero"), transformer),
        (dict(hidden="flag"), transformer + 4 * d),
        (dict(hidden="zero", positions="learned"), transformer + CONTEXT * d),
        (dict(hidden="zero", positions="timestep"), transformer + 20 * d),
        (dict(hidden="zero", norm="post"), transformer - 2 * d),
        (dict(hidden="zero", embedding="norm"), transformer + 2 * d),
        (dict(model_type="nn", hidden="zero"), net),
    ]
    for config, size in sizes:
        assert model.num_params(build(config, doorkey_data.factors)) == size, config


POSITIONS = [dict(positions=positions) for positions in ("learned", "timestep")]


@pytest.mark.parametrize("config", FAMILIES + POSITIONS, ids=name_of)
def test_weight_decay_shrinks_matrices_only(config, doorkey_data):
    network = build(config, doorkey_data.factors)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = model.configure_optimizer(network, learning_rate=0.1, weight_decay=0.5)
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    matrices = {f"{name}.weight" for name in linear}
    assert len(matrices) >= 3
    for name, p in network.named_parameters():
        shrunk = before[name] * (0.95 if name in matrices else 1.0)
        torch.testing.assert_close(p.detach(), shrunk, msg=name)


def test_the_optimiser_is_torch_s_to_the_bit_and_loads_no_compiler(doorkey_data, generator):
    ours, theirs = (build({}, doorkey_data.factors) for _ in range(2))
    optimizers = [model.configure_optimizer(ours, learning_rate=0.1, weight_decay=0.5)]
    groups = [dict(group, params=[]) for group in optimizers[0].param_groups]
    of_name = dict(zip(ours.parameters(), theirs.parameters()))
    for group, own in zip(groups, optimizers[0].param_groups):
        group["params"] = [of_name[p] for p in own["params"]]
    optimizers.append(torch.optim.AdamW(groups, fused=True))
    for _ in range(3):
        for one, other in zip(ours.parameters(), theirs.parameters()):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
            optimizer.zero_grad(set_to_none=True)
    assert identical(ours.state_dict(), theirs.state_dict())
    assert all(p.grad is None and p.requires_grad for p in ours.parameters())
    code = (
        "import sys, model, doorkey; network = model.build(model.ModelConfig(), doorkey.factors());"
        " p = next(network.parameters()); p.grad = 0 * p.detach();"
        " optimizer = model.configure_optimizer(network, 0.1, 0.1); optimizer.step();"
        " optimizer.load_state_dict(optimizer.state_dict()); optimizer.zero_grad();"
        " sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --------------------------------------------------------------------------------------------------
# Half precision


@pytest.mark.parametrize("head", ["mean", "median", "gaussian"])
def test_in_bfloat16_answers_are_as_fine_as_their_standard_deviation(head):
    """In units of the data, 1000 and 1001 are one number of bfloat16."""
    far = Factor("x", "STATE", "continuous", 2, (1e3, -5.0), (1.0, 0.1), (1.0, 0.1))
    network = build({"head": head}, [far, Factor("a", "ACTION", "categorical", 3)])
    values = {
        "x": torch.tensor(far.mean).expand(40, CONTEXT, 2),
        "a": torch.zeros(40, CONTEXT).long(),
    }
    see = torch.zeros(40, CONTEXT, 3, dtype=torch.bool)
    see[..., 0] = torch.arange(40)[:, None] % CONTEXT == torch.arange(CONTEXT)
    exact = network(values, see)["x"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = network(values, see)["x"]
    assert ((rounded - exact) / torch.tensor(far.std)).abs().max() < 0.05
