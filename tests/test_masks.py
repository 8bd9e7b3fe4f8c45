"""Masks: every task against a slow reference that lists, with sets, all masks that it may draw.

Tests over the reference's tasks say what these do; tests over masks.TASKS hold for any task at all.
A new task needs no change here.
"""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import build, identical, scrambled

import data
import doorkey
import masks
import model
import traits
from data import Factor
from traits import Traits

pytestmark = pytest.mark.quick

S, A, R = range(3)  # groups of the last axis: STATE, ACTION, RETURN


# --------------------------------------------------------------------------------------------------
# The reference: for each task, the list of (see, predict) it may draw, one per i, as sets of
# (group, timestep)


def control(T, i, also_seen=(), past_actions=True):
    see = {(S, t) for t in range(i)} | {(A, t) for t in range(i - 1) if past_actions}
    return see | set(also_seen), {(A, i - 1)}


def future(T, i):
    see = {(S, t) for t in range(i)} | {(A, t) for t in range(i - 1)}
    return see, {(g, t) for g in (S, A) for t in range(T)} - see


def past(T, i):
    see = {(g, t) for g in (S, A) for t in range(i, T)}
    return see, {(g, t) for g in (S, A) for t in range(i)}


def span(T, a, b):
    hidden = {(S, t) for t in range(a, b)} | {(A, t) for t in range(max(a - 1, 0), b)}
    return {(g, t) for g in (S, A) for t in range(T)} - hidden, hidden


def everything(T, returns=(), groups=(S, A)):
    return {(g, t) for g in groups for t in range(T)} | set(returns), {(A, t) for t in range(T)}


def waypoints(T):
    return {(S, t) for t in (0, T // 3, 2 * T // 3, T - 1)}


def backup(T, i):
    return {(S, i), (A, i)} | {(R, t) for t in [i + 1] if t < T}, {(R, i)}


START = {(R, 0)}
REFERENCE = {
    "behavior_cloning": lambda T: [control(T, i) for i in range(1, T + 1)],
    "reward_conditioned": lambda T: [control(T, i, START) for i in range(1, T + 1)],
    "behavior_cloning_states": lambda T: [control(T, i, (), False) for i in range(1, T + 1)],
    "reward_conditioned_states": lambda T: [control(T, i, START, False) for i in range(1, T + 1)],
    "goal_conditioned": lambda T: [control(T, i, {(S, T - 1)}) for i in range(1, T)],
    "waypoint": lambda T: [control(T, i, waypoints(T)) for i in range(1, T + 1)],
    "future": lambda T: [future(T, i) for i in range(1, T + 1)],
    "past": lambda T: [past(T, i) for i in range(1, T + 1)],
    "forward_dynamics": lambda T: [({(S, i), (A, i)}, {(S, i + 1)}) for i in range(T - 1)],
    "backward_dynamics": lambda T: [({(S, i), (A, i - 1)}, {(S, i - 1)}) for i in range(1, T)],
    "inverse_dynamics": lambda T: [({(S, i), (S, i + 1)}, {(A, i)}) for i in range(T - 1)],
    "return_to_go": lambda T: [(everything(T)[0], {(R, t) for t in range(T)})],
    "return_backup": lambda T: [backup(T, i) for i in range(T)],
    "dt_bc": lambda T: [everything(T)],
    "dt_rc": lambda T: [everything(T, START)],
    "dt_bc_states": lambda T: [everything(T, (), (S,))],
    "dt_rc_states": lambda T: [everything(T, START, (S,))],
}
EIGHT = {
    "past", "future", "behavior_cloning", "reward_conditioned", "goal_conditioned", "waypoint",
    "forward_dynamics", "backward_dynamics",
}  # fmt: skip
RANDOM = ("random", "random_bc", "random_rc")


def allowed(task, T):
    """All the (see, predict) that a task may draw."""
    return frozen(REFERENCE[task](T))


def frozen(pairs):
    return [(frozenset(see), frozenset(predict)) for see, predict in pairs]


def drawn(task, B, T, seed=0, **options):
    """What draw() draws, each sequence as a hashable pair of sets, like the reference's."""
    see, predict = masks.draw(task, B, T, torch.Generator().manual_seed(seed), **options)
    assert see.shape == predict.shape == (B, T, 3) and see.dtype == predict.dtype == torch.bool
    as_set = lambda mask: frozenset((g, t) for t, g in mask.nonzero().tolist())
    return [(as_set(s), as_set(p)) for s, p in zip(see, predict)]


def close(frequency, probability, n):
    """Whether a frequency among n is within five standard deviations of its probability."""
    return abs(frequency - probability) <= 5 * math.sqrt(probability * (1 - probability) / n)


# --------------------------------------------------------------------------------------------------
# Tasks


def test_all_tasks_of_the_specification_have_a_name():
    assert set(REFERENCE) | {*RANDOM, "span"} <= set(masks.TASKS)


@pytest.mark.parametrize("T", [2, 3, 10])
@pytest.mark.parametrize("task", REFERENCE)
def test_task_draws_what_the_reference_lists_each_equally_often(task, T):
    expected = allowed(task, T)
    assert len(set(expected)) == len(expected)
    balanced = Counter(drawn(task, 6 * len(expected), T, balanced=True))
    assert balanced == {pair: 6 for pair in expected}
    B = 1000
    free = Counter(drawn(task, B, T))
    assert set(free) == set(expected)
    assert all(close(count / B, 1 / len(expected), B) for count in free.values())


@pytest.mark.parametrize("task", ["behavior_cloning", "goal_conditioned", "past"])
def test_balanced_draws_of_any_number_differ_by_at_most_one(task):
    counts = Counter(drawn(task, 37, 10, balanced=True)).values()
    assert max(counts) - min(counts) == 1 and len(counts) == len(allowed(task, 10))


def test_balanced_draws_of_few_sequences_reach_every_timestep():
    drawings = [drawn("past", 3, 10, seed, balanced=True) for seed in range(100)]
    assert all(len(set(three)) == 3 for three in drawings)
    assert {pair for three in drawings for pair in three} == set(allowed("past", 10))


@pytest.mark.parametrize("balanced", [False, True])
def test_sequences_of_a_batch_are_in_no_order(balanced):
    """A balanced draw must not tie the timesteps to the trajectories, which are asked in order."""
    indices = [len(see) for see, _ in drawn("behavior_cloning_states", 100, 10, balanced=balanced)]
    assert indices != sorted(indices) and indices[:10] != indices[10:20]


@pytest.mark.parametrize("task", REFERENCE)
def test_a_context_of_one_timestep_is_enough_where_the_task_fits_and_refused_elsewhere(task):
    if expected := allowed(task, 1):
        assert set(drawn(task, 5, 1)) == set(expected)
    else:
        with pytest.raises(ValueError, match="context of 1"):
            masks.draw(task, 5, 1, torch.Generator())


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("task", [*REFERENCE, *RANDOM, "span", "past+future", "span(2,4)"])
def test_nothing_seen_is_predicted_and_returns_by_tasks_of_their_own_alone(task, balanced):
    generator = torch.Generator().manual_seed(1)
    see, predict = masks.draw(task, 200, 7, generator, balanced=balanced)
    assert predict.any() and predict[..., R].any() == task.startswith("return_")
    assert (see & predict).any() == (task in ("dt_bc", "dt_rc"))


@pytest.mark.parametrize("task", [*masks.TASKS, "past+future"])
def test_masks_of_any_task_depend_on_their_generator_alone(task):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = drawn(task, 50, 10, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert drawn(task, 50, 10, seed=3) == first
    if task in EIGHT or task in RANDOM:
        assert drawn(task, 50, 10, seed=4) != first


# ---- random --------------------------------------------------------------------------------------


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("task", RANDOM)
def test_random_hides_each_entry_with_a_probability_drawn_per_sequence(task, balanced):
    B, T = 20_000, 4
    see, predict = masks.draw(task, B, T, torch.Generator().manual_seed(5), balanced=balanced)
    assert (predict[..., :2] == ~see[..., :2]).all()
    hidden = (~see[..., :2]).flatten(1).double()  # (B, 2 T)
    # With p ~ U(0, 1): the number of hidden entries is uniform over 0..2T, any entry is hidden with
    # probability E[p] = 1/2, any two of them with E[p^2] = 1/3, any three with E[p^3] = 1/4.
    numbers = hidden.sum(dim=1).long().bincount(minlength=2 * T + 1)
    assert all(close(count / B, 1 / (2 * T + 1), B) for count in numbers.tolist())
    assert all(close(frequency, 1 / 2, B) for frequency in hidden.mean(dim=0).tolist())
    for a, b, c in itertools.combinations(range(2 * T), 3):
        assert close((hidden[:, a] * hidden[:, b]).mean().item(), 1 / 3, B)
        assert close((hidden[:, a] * hidden[:, b] * hidden[:, c]).mean().item(), 1 / 4, B)


def test_random_shows_the_first_return_half_the_time_whatever_else_is_hidden():
    B = 20_000
    see, _ = masks.draw("random", B, 4, torch.Generator().manual_seed(6))
    shown, few_hidden = see[:, 0, R], see[..., :2].sum(dim=(1, 2)) > 4
    assert not see[:, 1:, R].any()
    for rows in (few_hidden, ~few_hidden):
        assert close(shown[rows].double().mean().item(), 1 / 2, int(rows.sum()))


def test_autoregressive_masks_end_before_any_state_or_action_alike():
    """In the order s0 a0 s1 a1 ...: of what is hidden, some asks given nothing that comes later."""
    B, T = 60_000, 3
    see, predict = masks.draw("random_autoregressive", B, T, torch.Generator().manual_seed(0))
    shown = see[..., :2].flatten(1)  # (B, 2 T) in that order
    assert torch.equal(predict[..., :2].flatten(1), ~shown) and not predict[..., R].any()
    after = torch.arange(2 * T).expand(B, -1).masked_fill(~shown, -1).amax(1) + 1  # (B,)
    # given the cut c and p, the last entry seen is j with probability (1-p) p^(c-1-j), c > j; p is
    # integrated out: 1 / ((m+1) (m+2)) with m = c-1-j, and 1 / (c+1) for none at all
    for entry in range(2 * T):
        cuts = range(max(entry, 1), 2 * T)
        expected = sum(
            1 / (c + 1) if not entry else 1 / ((c - entry + 1) * (c - entry + 2)) for c in cuts
        )
        assert close((after == entry).double().mean().item(), expected / (2 * T - 1), B)


@pytest.mark.parametrize("task, first", [("random_bc", False), ("random_rc", True)])
def test_random_bc_and_rc_fix_the_return(task, first):
    see, _ = masks.draw(task, 50, 4, torch.Generator().manual_seed(7))
    assert (see[:, 0, R] == first).all() and not see[:, 1:, R].any()


def test_balanced_random_spreads_its_probabilities_evenly():
    spread = {}
    for balanced in (False, True):
        shares = []
        for seed in range(100):
            generator = torch.Generator().manual_seed(seed)
            _, predict = masks.draw("random", 50, 10, generator, balanced=balanced)
            shares.append(predict.double().mean())
        spread[balanced] = torch.stack(shares).std().item()
    assert spread[True] < 0.5 * spread[False]


# ---- spans and mixtures --------------------------------------------------------------------------


@pytest.mark.parametrize("T", [1, 5])
def test_span_hides_exactly_what_it_names(T):
    for a, b in itertools.combinations_with_replacement(range(T + 1), 2):
        if b > 0:
            assert set(drawn(f"span({a},{b})", 3, T)) == set(frozen([span(T, a, b)])), (a, b)
    assert drawn("span(0, 1)", 1, T) == drawn("span(0,1)", 1, T)


@pytest.mark.parametrize("T", [1, 2, 5])
def test_span_without_numbers_draws_every_span(T):
    spans = itertools.combinations(range(T + 1), 2)
    assert set(drawn("span", 2000, T)) == set(frozen(span(T, a, b) for a, b in spans))


@pytest.mark.parametrize(
    "text", ["span(0,0)", "span(4,2)", "span(5,11)", "span(-1,2)", "span(1)", "span(a,b)", "span()"]
)
def test_impossible_spans_are_refused(text):
    with pytest.raises(ValueError, match="span"):
        masks.draw(text, 2, 10, torch.Generator())


def test_all_draws_every_mask_of_its_eight_tasks():
    union = {pair for task in EIGHT for pair in allowed(task, 10)}
    assert set(drawn("all", 4000, 10)) == union
    assert set(drawn("all", 4000, 10, balanced=True)) == union
    assert set(masks.parse("all")) == EIGHT


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(
    "parts", [("past", "forward_dynamics"), ("future", "inverse_dynamics", "dt_bc"), sorted(EIGHT)]
)
def test_a_mixture_draws_its_tasks_equally_often(parts, balanced):
    B, T = 400 * len(parts), 10
    # some masks belong to two of the eight: count only those that are one task's alone
    alone = ("reward_conditioned", "forward_dynamics", "backward_dynamics")
    counted = alone if len(parts) == 8 else parts
    lists = {task: set(allowed(task, T)) for task in parts}
    owners = Counter()
    for pair in drawn("+".join(parts), B, T, balanced=balanced):
        owner = [task for task in parts if pair in lists[task]]
        assert owner
        owners[owner[0]] += len(owner) == 1
    for count in (owners[task] for task in counted):
        assert count == 400 if balanced else close(count / B, 1 / len(parts), B)


def test_a_mixture_shares_alike_and_all_is_one_part_of_it():
    assert masks.parse("past+future") == {"past": 0.5, "future": 0.5}
    shares = masks.parse("random+all")
    assert shares.pop("random") == 0.5 and shares == dict.fromkeys(masks.EIGHT, 1 / 16)
    assert masks.parse("past+past+future")["past"] == pytest.approx(2 / 3)
    assert list(masks.rows_of("random+all", 33).values())[-1] == slice(31, 33)


def test_a_batch_too_small_for_its_mixture_is_refused():
    masks.draw("all", 8, 10, torch.Generator())
    with pytest.raises(ValueError, match="batch of 7 is too small"):
        masks.draw("all", 7, 10, torch.Generator())


def test_what_an_entry_counts_is_the_same_within_a_task_and_a_factor():
    """A task has its share of the loss, however many entries it predicts."""
    factors = doorkey.factors()
    _, predict = masks.draw("past+forward_dynamics", 40, 10, torch.Generator().manual_seed(0))
    counts = traits.shares("past+forward_dynamics", predict, factors)
    for name, total in {"agent_pos": 1.0, "key_pos": 1.0, "action": 0.5, "return_to_go": 0}.items():
        assert counts[name].sum().item() == pytest.approx(total)
        for rows in (slice(0, 20), slice(20, 40)):
            assert len(counts[name][rows].unique()) <= 2  # 0, and what one entry counts


def test_a_mixture_may_hold_spans_and_random():
    expected = frozen([span(6, 1, 3), span(6, 2, 6)])
    assert set(drawn("span(1,3)+span(2,6)", 100, 6)) == set(expected)
    assert len(set(drawn("random+dt_bc", 100, 6))) > 20


@pytest.mark.parametrize(
    "wrong, near",
    [("behaviour_cloning", "behavior_cloning"), ("waypoints", "waypoint"), ("pasta", "past"),
     ("past+futur", "future"), ("Random", "random"), ("forward", "forward_dynamics"),
     ("goal", "goal_conditioned")],
)  # fmt: skip
def test_a_mistyped_task_is_refused_with_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=near):
        masks.draw(wrong, 2, 10, torch.Generator())
    with pytest.raises(ValueError, match=wrong.split("+")[-1]):
        masks.parse(wrong)


@pytest.mark.parametrize("wrong", ["", "xyzzy", "past+", "+", "past,future"])
def test_what_is_no_task_is_refused(wrong):
    with pytest.raises(ValueError):
        masks.draw(wrong, 2, 10, torch.Generator())


# --------------------------------------------------------------------------------------------------
# What a task asks of a model

TRAITS = {  # by hand: does it predict a single timestep, show its own answers, suit a causal model
    "behavior_cloning": Traits(True, False, True),
    "reward_conditioned": Traits(True, False, True),
    "behavior_cloning_states": Traits(True, False, True),
    "reward_conditioned_states": Traits(True, False, True),
    "goal_conditioned": Traits(True, False, False),
    "waypoint": Traits(True, False, False),
    "past": Traits(False, False, False),
    "future": Traits(False, False, False),
    "forward_dynamics": Traits(True, False, False),
    "backward_dynamics": Traits(True, False, False),
    "inverse_dynamics": Traits(True, False, False),
    "return_to_go": Traits(False, False, False),
    "return_backup": Traits(True, False, False),
    "random": Traits(False, False, False),
    "random_bc": Traits(False, False, False),
    "random_rc": Traits(False, False, False),
    "span": Traits(False, False, False),
    "span(2,5)": Traits(False, False, False),
    "span(0,1)": Traits(True, False, False),  # state 0 and action 0
    "span(11,13)": Traits(False, False, False),
    "dt_bc": Traits(False, True, True),
    "dt_rc": Traits(False, True, True),
    "dt_bc_states": Traits(False, False, True),
    "dt_rc_states": Traits(False, False, True),
    "all": Traits(False, False, False),
}


@pytest.mark.parametrize("task", TRAITS)
def test_the_traits_of_a_task_are_those_that_a_reader_sees(task):
    assert traits.of(task) == TRAITS[task]


def every_other(batch):
    """README's: every second state is known."""
    known = batch.steps() % 2 == 0
    return batch.masks(known, False), batch.masks(~known, True)


def last_action(batch):
    """All states, and every action but the last, which is asked."""
    last = batch.steps() == batch.T - 1
    return batch.masks(True, ~last), batch.masks(False, last)


def look_up(batch):
    """Actions that are shown, and asked for all the same."""
    return batch.masks(True, True), batch.masks(False, True)


def copy_states(batch):
    return batch.masks(True, False), batch.masks(True, False)


def later_action(batch):
    """The action at t=1 tells about the asked one at t=0."""
    t = batch.steps()
    return batch.masks(t == 0, t == 1), batch.masks(False, t == 0)


def later_return(batch):
    """The return at t=1 tells about the reward of the asked action at t=0."""
    now = batch.steps() == 0
    see, predict = batch.masks(now, False), batch.masks(False, now)
    see[:, 1, R] = True
    return see, predict


NEW = {  # a task of a user: its traits, and the models that can do it
    every_other: (Traits(False, False, False), {"unimask", "nn"}),
    last_action: (Traits(True, False, True), {"unimask", "nn", "dt"}),
    look_up: (Traits(False, True, True), {"dt"}),
    copy_states: (Traits(False, True, False), set()),
    later_action: (Traits(True, False, False), {"unimask", "nn"}),
    later_return: (Traits(True, False, False), {"unimask", "nn"}),
}


@pytest.fixture
def add(monkeypatch):
    """add(task): put a task before all others in TASKS, for one test."""

    def before(task):
        monkeypatch.setattr(masks, "TASKS", {task.__name__: task} | masks.TASKS)

    return before


@pytest.mark.parametrize("task", NEW, ids=lambda task: task.__name__)
def test_a_new_task_need_not_say_what_it_asks_of_a_model(task, add):
    add(task)
    name, (expected, able) = task.__name__, NEW[task]
    assert traits.of(name) == expected
    for kind in ("unimask", "nn", "dt"):
        assert traits.can(kind, name) == (kind in able), kind
        if kind in able:
            traits.check(kind, name)
        else:
            with pytest.raises(ValueError, match=f"{kind}.*{name}"):
                traits.check(kind, name)


def test_a_new_task_changes_no_other(add):
    names = [*REFERENCE, *RANDOM, "span", "all", "past+all"]
    before = {name: (drawn(name, 40, 10), masks.parse(name)) for name in names[:-1]}
    eight = masks.EIGHT
    add(every_other)
    assert list(masks.TASKS)[0] == "every_other" and masks.EIGHT == eight
    assert {name: (drawn(name, 40, 10), masks.parse(name)) for name in names[:-1]} == before
    assert set(drawn("past+every_other", 200, 4)) > set(drawn("every_other", 1, 4))


def test_a_new_task_may_ask_about_timesteps_beyond_the_tenth(add):
    def late(batch):
        t = batch.steps()
        return batch.masks(t < 12, t < 12), batch.masks(t >= 12, False)

    add(late)
    _, predict = masks.draw("late", 4, 20, torch.Generator().manual_seed(0))
    assert traits.wanted_timestep("late", predict) is None  # it asks about eight of them


@pytest.mark.parametrize(
    "kind, able, unable",
    [
        (
            "unimask",
            ["random", "all", "past", "behavior_cloning", "span(1,2)", "past+future"],
            ["dt_bc", "dt_rc", "past+dt_bc"],
        ),
        ("nn", ["random", "all", "behavior_cloning", "reward_conditioned"], ["dt_bc", "dt_rc"]),
        (
            "dt",
            ["dt_bc", "dt_rc", "dt_bc+dt_rc", "dt_rc_states", "behavior_cloning"],
            ["random", "all", "past", "goal_conditioned", "waypoint", "future", "dt_bc+past"],
        ),
    ],
)
def test_a_model_is_refused_a_task_that_it_cannot_do(kind, able, unable):
    for task in able:
        assert traits.can(kind, task)
        traits.check(kind, task)
    for task in unable:
        assert not traits.can(kind, task)
        with pytest.raises(ValueError, match=f"{kind}.*{task[:5]}.*behavior_cloning"):
            traits.check(kind, task)


def test_the_one_timestep_that_is_wanted_is_found():
    for task in ("waypoint", "behavior_cloning+forward_dynamics+span(0,1)"):
        _, predict = masks.draw(task, 100, 10, torch.Generator().manual_seed(0))
        at = traits.wanted_timestep(task, predict)
        rows = torch.arange(100)
        assert at.shape == (100,) and predict[rows, at].any(dim=-1).all()
        assert predict.any(dim=-1).sum() == 100
    for task in ("random", "past+behavior_cloning", "span(2,5)", "dt_bc"):
        _, predict = masks.draw(task, 100, 10, torch.Generator().manual_seed(0))
        assert traits.wanted_timestep(task, predict) is None
    per_factor = {"action": torch.ones(4, 10, dtype=torch.bool)}
    assert traits.wanted_timestep("behavior_cloning", per_factor) is None


# --------------------------------------------------------------------------------------------------
# Return modes, and masks per factor


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("task", ["random", "reward_conditioned", "dt_bc", "past+random_rc"])
def test_return_modes_set_the_returns_and_nothing_else(task, balanced):
    B, T = 1000, 5
    seeded = lambda: torch.Generator().manual_seed(8)
    plain_see, plain_predict = masks.draw(task, B, T, seeded(), balanced)
    for mode in masks.RETURN_MODES:
        see, predict = masks.draw(task, B, T, seeded(), balanced, mode)
        assert torch.equal(see[..., :2], plain_see[..., :2]) and torch.equal(predict, plain_predict)
        shown = {
            "unchanged": plain_see[..., R],
            "all": see[..., R] | True,
            "with_state": see[..., S],
        }
        assert torch.equal(see[..., R], shown[mode])


FACTORS = [
    Factor("agent_pos", "STATE", "categorical", 16),
    Factor("key_pos", "STATE", "categorical", 16),
    Factor("action", "ACTION", "categorical", 4),
    Factor("return_to_go", "RETURN", "categorical", 17),
]


def test_group_masks_expand_to_their_factors_and_factor_masks_pass_through():
    mask = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    expanded = masks.expand(mask, FACTORS)
    assert list(expanded) == [f.name for f in FACTORS]
    for name, group in zip(expanded, (S, S, A, R)):
        assert torch.equal(expanded[name], mask[..., group])
    assert masks.expand(expanded, FACTORS) is expanded


def test_factors_of_a_token_are_hidden_on_their_own_and_then_asked_for():
    B, T = 4000, 5
    see, predict = masks.draw("past", B, T, torch.Generator().manual_seed(0), returns="all")
    shown, asked = masks.expand(see, FACTORS), masks.expand(predict, FACTORS)
    hide = lambda p: masks.hide_factors(see, predict, FACTORS, p, torch.Generator().manual_seed(1))
    keep, wanted = hide(0.3)
    for name, visible in shown.items():
        assert not (keep[name] & ~visible).any()
        share = keep[name][visible].double().mean().item()
        assert close(share, 0.7, int(visible.sum()))
        hidden = visible & ~keep[name]
        expected = asked[name] if name == "return_to_go" else asked[name] | hidden
        assert torch.equal(wanted[name], expected)
    both = shown["agent_pos"]
    together = (keep["agent_pos"] & keep["key_pos"])[both].double().mean().item()
    assert close(together, 0.49, int(both.sum()))
    assert all(torch.equal(mask, shown[name]) for name, mask in hide(0.0)[0].items())
    assert not any(mask.any() for mask in hide(1.0)[0].values())


def test_picture_shows_what_is_seen_predicted_and_neither():
    see, predict = masks.draw("span(1,2)", 1, 3, torch.Generator())
    assert [line.split() for line in masks.picture(see[0], predict[0]).splitlines()] == [
        ["state", "#", "?", "#"],
        ["action", "?", "?", "#"],
        ["return", ".", ".", "."],
    ]


def test_no_task_sees_or_asks_what_is_padding_or_unknown(toy_data, generator):
    """And what stands there changes no output, no loss and no gradient."""
    known = np.random.default_rng(0).random(toy_data.valid().shape) < 0.7
    lengths, values = np.maximum(2, toy_data.lengths - 7), toy_data.values | {"action/known": known}
    made = replace(toy_data, values=values, lengths=lengths)
    network = build(dict(dropout=0.0), made.factors)
    batch = data.Windows(made, 5).draw(60, generator)
    keep = {f.name: batch[f"{f.name}/known"] for f in made.factors}
    assert not any(x.all() for x in keep.values())
    assert (keep["action"] <= keep["room"]).all() and not torch.equal(keep["action"], keep["room"])
    other = scrambled(batch, keep, made.factors)
    for task in ("all", "random", "behavior_cloning", "reward_conditioned"):
        pair = masks.draw(task, 60, 5, generator)
        see, predict = (masks.known_only(mask, batch, made.factors) for mask in pair)
        for name, x in keep.items():
            assert not (see[name] & ~x).any() and not (predict[name] & ~x).any()
        shares, at = (
            traits.shares(task, predict, made.factors),
            traits.wanted_timestep(task, predict),
        )
        assert (at is None) == (task in ("all", "random"))
        found = []
        for values in (batch, other):
            network.zero_grad()
            total, _ = model.loss(network, network(values, see, at), values, shares, at)
            total.backward()
            found.append({n: p.grad.clone() for n, p in network.named_parameters()})
            found[-1]["loss"] = total.detach()
        assert identical(*found) and found[0]["loss"] > 0


def test_a_mode_of_returns_that_there_is_not_is_refused(generator):
    with pytest.raises(ValueError, match="returns='first'"):
        masks.draw("random", 4, 5, generator, returns="first")


def test_a_name_may_be_given_to_another_task(monkeypatch):
    for name, one in (("past", False), ("forward_dynamics", True), ("past", False)):
        monkeypatch.setitem(masks.TASKS, "mine", masks.TASKS[name])
        assert traits.of("mine").one_timestep == one


def test_masks_are_as_they_were_where_all_is_known(toy_data, generator):
    batch = data.Windows(toy_data, 5).draw(9, generator)
    mask, _ = masks.draw("random", 9, 5, generator)
    assert masks.known_only(mask, batch, toy_data.factors) is mask


def test_a_new_task_that_is_wrong_is_named(monkeypatch):
    shown = lambda batch: (batch.masks(True, False), batch.masks(True, False))
    flat = lambda batch: (batch.masks(True, False)[..., 0], batch.masks(False, True))
    monkeypatch.setitem(masks.TASKS, "overlap", shown)
    with pytest.raises(ValueError, match="'overlap', which shows what it asks for"):
        traits.check("unimask", "overlap")
    with pytest.raises(ValueError, match="'past', which asks for more than actions, or looks"):
        traits.check("dt", "past")
    monkeypatch.setitem(masks.TASKS, "flat", flat)
    with pytest.raises(
        ValueError, match=r"'flat' makes masks of torch.bool \(5, 4\), not .*5, 4, 3"
    ):
        masks.draw("flat", 5, 4, torch.Generator())
