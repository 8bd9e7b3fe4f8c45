"""Masks: every task against a slow reference that lists, with loops over sets, all masks that the task may draw."""

import itertools
import math
from collections import Counter

import pytest
import torch

import masks
from data import Factor

S, A, R = range(3)  # groups of the last axis: STATE, ACTION, RETURN


# ---------------------------------------------------------------------------------------------------------------------
# The reference: for each task, the list of (see, predict) it may draw, one per i, as sets of (group, timestep)


def control(T, i, also_seen=(), past_actions=True):
    see = {(S, t) for t in range(i)} | {(A, t) for t in range(i - 1) if past_actions} | set(also_seen)
    return see, {(A, i - 1)}


def span(T, a, b):
    hidden = {(S, t) for t in range(a, b)} | {(A, t) for t in range(max(a - 1, 0), b)}
    return {(g, t) for g in (S, A) for t in range(T)} - hidden, hidden


def everything(T, returns=(), groups=(S, A)):
    return {(g, t) for g in groups for t in range(T)} | set(returns), {(A, t) for t in range(T)}


RETURN_AT_START = {(R, 0)}
REFERENCE = {
    "behavior_cloning": lambda T: [control(T, i) for i in range(1, T + 1)],
    "reward_conditioned": lambda T: [control(T, i, RETURN_AT_START) for i in range(1, T + 1)],
    "behavior_cloning_states": lambda T: [control(T, i, past_actions=False) for i in range(1, T + 1)],
    "reward_conditioned_states": lambda T: [
        control(T, i, RETURN_AT_START, past_actions=False) for i in range(1, T + 1)
    ],
    "goal_conditioned": lambda T: [control(T, i, {(S, T - 1)}) for i in range(1, T)],
    "waypoint": lambda T: [control(T, i, {(S, t) for t in (0, T // 3, 2 * T // 3, T - 1)}) for i in range(1, T + 1)],
    "future": lambda T: [
        (
            {(S, t) for t in range(T) if t < i} | {(A, t) for t in range(T) if t < i - 1},
            {(S, t) for t in range(T) if t >= i} | {(A, t) for t in range(T) if t >= i - 1},
        )
        for i in range(1, T + 1)
    ],
    "past": lambda T: [
        (
            {(g, t) for g in (S, A) for t in range(T) if t >= i},
            {(g, t) for g in (S, A) for t in range(T) if t < i},
        )
        for i in range(1, T + 1)
    ],
    "forward_dynamics": lambda T: [({(S, i), (A, i)}, {(S, i + 1)}) for i in range(0, T - 1)],
    "backward_dynamics": lambda T: [({(S, i), (A, i - 1)}, {(S, i - 1)}) for i in range(1, T)],
    "inverse_dynamics": lambda T: [({(S, i), (S, i + 1)}, {(A, i)}) for i in range(0, T - 1)],
    "dt_bc": lambda T: [everything(T)],
    "dt_rc": lambda T: [everything(T, RETURN_AT_START)],
    "dt_bc_states": lambda T: [everything(T, groups=(S,))],
    "dt_rc_states": lambda T: [everything(T, RETURN_AT_START, groups=(S,))],
}
MIXED = ("past", "future", "behavior_cloning", "reward_conditioned", "goal_conditioned", "waypoint", "forward_dynamics",
         "backward_dynamics")  # fmt: skip
RANDOM = ("random", "random_bc", "random_rc")
ONE_STEP = [name for name in REFERENCE if REFERENCE[name](1)]  # tasks that a context of one timestep can hold


def drawn(task, B, T, seed=0, **options):
    """What draw() draws, each sequence as a hashable pair of sets, like the reference's."""
    see, predict = masks.draw(task, B, T, torch.Generator().manual_seed(seed), **options)
    assert see.shape == predict.shape == (B, T, 3) and see.dtype == predict.dtype == torch.bool
    as_set = lambda mask: frozenset((g, t) for t, g in mask.nonzero().tolist())
    return [(as_set(s), as_set(p)) for s, p in zip(see, predict)]


def frozen(pairs):
    return [(frozenset(see), frozenset(predict)) for see, predict in pairs]


def close(frequency, probability, n):
    """Whether a frequency among n is within five standard deviations of its probability."""
    return abs(frequency - probability) <= 5 * math.sqrt(probability * (1 - probability) / n)


# ---------------------------------------------------------------------------------------------------------------------
# Tasks


def test_all_tasks_of_the_specification_have_a_name():
    assert set(masks.TASKS) == set(REFERENCE) | set(RANDOM) | {"all", "span"}


@pytest.mark.parametrize("T", [2, 3, 5, 10])
@pytest.mark.parametrize("task", REFERENCE)
def test_task_draws_what_the_reference_lists_each_equally_often(task, T):
    allowed = frozen(REFERENCE[task](T))
    assert len(set(allowed)) == len(allowed)
    balanced = Counter(drawn(task, 6 * len(allowed), T, balanced=True))
    assert balanced == {pair: 6 for pair in allowed}
    B = 1000
    free = Counter(drawn(task, B, T))
    assert set(free) == set(allowed)
    assert all(close(count / B, 1 / len(allowed), B) for count in free.values())


@pytest.mark.parametrize("task", ["behavior_cloning", "goal_conditioned", "past", "forward_dynamics"])
def test_balanced_draws_of_any_number_differ_by_at_most_one(task):
    counts = Counter(drawn(task, 37, 10, balanced=True)).values()
    assert max(counts) - min(counts) == 1 and len(counts) == len(REFERENCE[task](10))


@pytest.mark.parametrize("balanced", [False, True])
def test_sequences_of_a_batch_are_in_no_order(balanced):
    """Otherwise a balanced draw would tie the timesteps to the trajectories, which are asked in order."""
    indices = [len(see) for see, _ in drawn("behavior_cloning_states", 100, 10, balanced=balanced)]
    assert indices != sorted(indices) and indices[:10] != indices[10:20]


@pytest.mark.parametrize("task", ONE_STEP)
def test_a_context_of_one_timestep_is_enough_where_the_task_fits(task):
    assert set(drawn(task, 5, 1)) == set(frozen(REFERENCE[task](1)))


@pytest.mark.parametrize("task", sorted(set(REFERENCE) - set(ONE_STEP)))
def test_a_context_too_short_for_the_task_is_refused(task):
    with pytest.raises(ValueError, match="context of 1"):
        masks.draw(task, 5, 1, torch.Generator())


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("task", [*masks.TASKS, "past+future", "span(2,4)", "random+behavior_cloning"])
def test_nothing_seen_is_predicted_and_never_a_return(task, balanced):
    see, predict = masks.draw(task, 200, 7, torch.Generator().manual_seed(1), balanced=balanced)
    assert not predict[..., R].any()
    assert predict.any()
    if task not in ("dt_bc", "dt_rc"):
        assert not (see & predict).any()


@pytest.mark.parametrize("task", [*masks.TASKS, "past+future"])
def test_masks_depend_on_their_generator_alone(task):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = drawn(task, 50, 6, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert drawn(task, 50, 6, seed=3) == first
    if task not in masks.CAUSAL_ONLY:
        assert drawn(task, 50, 6, seed=4) != first


# ---- random ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("task", RANDOM)
def test_random_hides_each_entry_with_a_probability_drawn_per_sequence(task, balanced):
    B, T = 20_000, 4
    see, predict = masks.draw(task, B, T, torch.Generator().manual_seed(5), balanced=balanced)
    assert (predict[..., :2] == ~see[..., :2]).all()
    hidden = (~see[..., :2]).flatten(1).double()  # (B, 2 T)
    # With p ~ U(0, 1): the number of hidden entries is uniform over 0..2T, any entry is hidden with probability
    # E[p] = 1/2, any two of them with E[p^2] = 1/3, any three with E[p^3] = 1/4.
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


@pytest.mark.parametrize("task, first", [("random_bc", False), ("random_rc", True)])
def test_random_bc_and_rc_fix_the_return(task, first):
    see, _ = masks.draw(task, 50, 4, torch.Generator().manual_seed(7))
    assert (see[:, 0, R] == first).all() and not see[:, 1:, R].any()


def test_balanced_random_spreads_its_probabilities_evenly():
    spread = {}
    for balanced in (False, True):
        draws = [
            masks.draw("random", 50, 10, torch.Generator().manual_seed(i), balanced=balanced)[1] for i in range(100)
        ]
        spread[balanced] = torch.stack([predict.double().mean() for predict in draws]).std().item()
    assert spread[True] < 0.5 * spread[False]


# ---- spans and mixtures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [1, 5, 10])
def test_span_hides_exactly_what_it_names(T):
    for a, b in itertools.combinations(range(T + 1), 2):
        assert set(drawn(f"span({a},{b})", 3, T)) == set(frozen([span(T, a, b)])), (a, b)
    assert drawn("span(0, 1)", 1, T) == drawn("span(0,1)", 1, T)


@pytest.mark.parametrize("T", [1, 2, 5])
def test_span_without_numbers_draws_every_span(T):
    assert set(drawn("span", 2000, T)) == set(frozen(span(T, a, b) for a, b in itertools.combinations(range(T + 1), 2)))


@pytest.mark.parametrize(
    "text", ["span(3,3)", "span(4,2)", "span(5,11)", "span(-1,2)", "span(1)", "span(a,b)", "span()"]
)
def test_impossible_spans_are_refused(text):
    with pytest.raises(ValueError, match="span"):
        masks.draw(text, 2, 10, torch.Generator())


def test_all_draws_every_mask_of_its_eight_tasks():
    union = {pair for task in MIXED for pair in frozen(REFERENCE[task](10))}
    assert set(drawn("all", 4000, 10)) == union
    assert set(drawn("all", 4000, 10, balanced=True)) == union
    assert set(masks.parse("all")) == set(MIXED)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("parts", [("past", "forward_dynamics"), ("future", "inverse_dynamics", "dt_bc"), MIXED])
def test_a_mixture_draws_its_tasks_equally_often(parts, balanced):
    B, T = 400 * len(parts), 10
    owners = Counter()
    lists = {task: set(frozen(REFERENCE[task](T))) for task in parts}
    for pair in drawn("+".join(parts), B, T, balanced=balanced):
        owner = [task for task in parts if pair in lists[task]]
        assert owner
        owners[owner[0]] += 1 if len(owner) == 1 else 0
    if parts == MIXED:  # some masks belong to two of these tasks: count only those that are one task's alone
        owners = {task: owners[task] for task in ("reward_conditioned", "forward_dynamics", "backward_dynamics")}
    for count in owners.values():
        assert count == 400 if balanced else close(count / B, 1 / len(parts), B)


def test_a_mixture_may_hold_spans_and_random():
    allowed = frozen([span(6, 1, 3)]) + frozen([span(6, 2, 6)])
    assert set(drawn("span(1,3)+span(2,6)", 100, 6)) == set(allowed)
    assert len(set(drawn("random+dt_bc", 100, 6))) > 20


@pytest.mark.parametrize(
    "wrong, near",
    [("behaviour_cloning", "behavior_cloning"), ("waypoints", "waypoint"), ("pasta", "past"), ("past+futur", "future"),
     ("Random", "random"), ("forward", "forward_dynamics"), ("goal", "goal_conditioned")],
)  # fmt: skip
def test_a_mistyped_task_is_refused_with_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"{near}"):
        masks.draw(wrong, 2, 10, torch.Generator())
    with pytest.raises(ValueError, match=wrong.split("+")[-1]):
        masks.parse(wrong)


@pytest.mark.parametrize("wrong", ["", "xyzzy", "past+", "+", "past,future"])
def test_what_is_no_task_is_refused(wrong):
    with pytest.raises(ValueError):
        masks.draw(wrong, 2, 10, torch.Generator())


@pytest.mark.parametrize(
    "kind, able, unable",
    [
        (
            "unimask",
            ["random", "all", "past", "behavior_cloning", "span(1,2)", "past+future"],
            ["dt_bc", "dt_rc", "past+dt_bc"],
        ),
        ("nn", ["random", "all", "behavior_cloning", "reward_conditioned"], ["dt_bc", "dt_rc_states"]),
        (
            "dt",
            ["dt_bc", "dt_rc", "dt_bc+dt_rc", "dt_rc_states", "behavior_cloning", "reward_conditioned_states"],
            ["random", "all", "past", "goal_conditioned", "waypoint", "future", "span(1,2)", "dt_bc+past"],
        ),
    ],
)
def test_a_model_is_refused_a_task_that_it_cannot_do(kind, able, unable):
    for task in able:
        assert masks.can(kind, task)
        masks.check(kind, task)
    for task in unable:
        assert not masks.can(kind, task)
        with pytest.raises(ValueError, match=kind):
            masks.check(kind, task)


# ---------------------------------------------------------------------------------------------------------------------
# Return modes, and masks per factor


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("task", ["random", "reward_conditioned", "past", "dt_bc", "past+random_rc"])
def test_return_modes_set_the_returns_and_nothing_else(task, balanced):
    B, T = 1000, 5
    draw = lambda mode: masks.draw(task, B, T, torch.Generator().manual_seed(8), balanced, mode)
    plain_see, plain_predict = draw("unchanged")
    for mode in masks.RETURN_MODES:
        see, predict = draw(mode)
        assert torch.equal(see[..., :2], plain_see[..., :2]) and torch.equal(predict, plain_predict)
        rows = Counter(map(tuple, see[..., R].tolist()))
        none, first, every = (False,) * T, (True,) + (False,) * (T - 1), (True,) * T
        if mode == "unchanged":
            assert torch.equal(see, plain_see)
        elif mode.endswith("_half"):
            shown = {"first_half": first, "all_half": every}[mode]
            assert set(rows) == {none, shown} and close(rows[shown] / B, 1 / 2, B)
        else:
            assert set(rows) == {{"hidden": none, "first": first, "all": every}[mode]}


def test_an_unknown_return_mode_is_refused():
    with pytest.raises(ValueError, match="frist.*first"):
        masks.draw("past", 2, 5, torch.Generator(), returns="frist")


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


def test_factors_of_a_token_are_hidden_on_their_own():
    B, T = 4000, 5
    see, _ = masks.draw("past", B, T, torch.Generator().manual_seed(0), returns="first")
    hidden = masks.hide_factors(see, FACTORS, 0.3, torch.Generator().manual_seed(1))
    visible = masks.expand(see, FACTORS)
    for name in visible:
        assert not (hidden[name] & ~visible[name]).any()
        kept = hidden[name][visible[name]].double()
        assert close(kept.mean().item(), 0.7, len(kept))
    both = visible["agent_pos"]
    together = (hidden["agent_pos"] & hidden["key_pos"])[both].double().mean().item()
    assert close(together, 0.49, int(both.sum()))
    for probability, expected in (
        (0.0, visible),
        (1.0, {name: torch.zeros(B, T, dtype=torch.bool) for name in visible}),
    ):
        result = masks.hide_factors(see, FACTORS, probability, torch.Generator().manual_seed(2))
        assert all(torch.equal(result[name], expected[name]) for name in visible)


def test_by_default_everything_hidden_is_predicted_but_returns():
    see, predict = masks.draw("random", 50, 5, torch.Generator().manual_seed(0))
    default = masks.all_hidden(see, FACTORS)
    expected = masks.expand(predict, FACTORS)
    assert all(torch.equal(default[name], expected[name]) for name in expected)
    per_factor = masks.all_hidden(masks.hide_factors(see, FACTORS, 0.5, torch.Generator().manual_seed(1)), FACTORS)
    assert not torch.equal(per_factor["agent_pos"], per_factor["key_pos"]) and not per_factor["return_to_go"].any()


def test_picture_shows_what_is_seen_predicted_and_neither():
    see, predict = masks.draw("span(1,2)", 1, 3, torch.Generator())
    assert [line.split() for line in masks.picture(see[0], predict[0]).splitlines()] == [
        ["state", "#", "?", "#"],
        ["action", "?", "?", "#"],
        ["return", ".", ".", "."],
    ]
