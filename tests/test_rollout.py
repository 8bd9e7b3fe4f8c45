"""Acting: what a policy is shown, what it earns, and the real rollout.py."""

import importlib.util
import json
import math
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import small
import torch
from runs import TINY, good

import bayes
import doorkey
import masks
import maze2d
import rollout
import worlds
from data import Factor, Trajectories


class Replay(torch.nn.Module):
    """A policy that plays recorded actions (n, L, ...), and keeps what it was shown.

    worth: (n, L, classes) logits, what it answers to a return; it then answers to states as well.
    """

    def __init__(self, trajectories, context, worth=None):
        super().__init__()
        self.config = SimpleNamespace(context=context, model_type="unimask", head="mean")
        self.factors = trajectories.factors
        self.predicted = [f for f in self.factors if f.group != "RETURN" or worth is not None]
        self.device_of = torch.nn.Parameter(torch.zeros(1))
        self.action = torch.as_tensor(trajectories.values["action"])
        self.worth, self.shown = worth, []

    def forward(self, values, see, at):
        now = int(values["timestep"][0, at[0]])
        action = self.action[:, now, None]  # (n, 1, ...)
        values, see = ({name: x.clone() for name, x in part.items()} for part in (values, see))
        self.shown.append((values, see, at))
        if action.dtype == torch.int64:  # logits of which only one action can be sampled
            action = torch.nn.functional.one_hot(action, 4) * 1e4
        if self.worth is None:
            return {"action": action.float()}
        answers = {f.name: torch.zeros(len(at), 1, f.size) for f in self.factors}
        return answers | {"action": action.float(), "return_to_go": self.worth[:, now, None]}


class Wide(gymnasium.Env):
    """Ten steps that earn their action, which may be anything from -2 to 2."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.zeros(1, dtype=np.float32), float(action[0]), False, False, {}


gymnasium.register("Wide-v0", Wide, max_episode_steps=10)
WIDE = [
    Factor("observation", "STATE", "continuous", 1),
    Factor("action", "ACTION", "continuous", 1),
]


def doorkey_at_the_starts_of(demo):
    env = doorkey.DoorKey(len(demo), seed=0)
    first = [demo.values[name][:, 0] for name in ("agent_pos", "key_pos")]
    env.state = env.table.index[*first, 0, 0]
    return env


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(0)])
def test_replayed_actions_earn_their_return(generator):
    demo = doorkey.make_dataset(200, seed=3)
    env = doorkey_at_the_starts_of(demo)
    values, rewards = rollout.play(Replay(demo, context=10), env, generator=generator)
    np.testing.assert_array_equal(rewards.sum(axis=1), env.dataset_returns(demo))
    for name in ("agent_pos", "key_pos", "action"):  # what happened is what was recorded
        np.testing.assert_array_equal(values[name], demo.values[name])


SHOWN = {  # mode: are past actions seen, which returns, and which states ahead (in a window of 4)
    "bc": (True, "none", ()),
    "bc_states": (False, "none", ()),
    "rc": (True, "first", ()),
    "rc_states": (False, "first", ()),
    "rc_all": (True, "all", ()),
    "rc_all_states": (False, "all", ()),
    "best": (True, "first", ()),
    "best_states": (False, "first", ()),
    "plan": (True, "none", ()),
    "plan_states": (False, "none", ()),
    "goal": (True, "none", (3,)),
    "goal_states": (False, "none", (3,)),
    "waypoint": (True, "none", (0, 1, 2, 3)),
    "waypoint_states": (False, "none", (0, 1, 2, 3)),
}


def test_every_mode_is_in_the_table():
    assert set(SHOWN) == set(rollout.MODES)


@pytest.mark.parametrize("mode", SHOWN)
def test_what_a_policy_is_shown_at_each_step_and_no_more(mode):
    """The past, the returns still to go of its target, the states ahead of its demonstration."""
    demo, other = doorkey.make_dataset(20, seed=4), doorkey.make_dataset(20, seed=5)
    past_actions, returns, ahead = SHOWN[mode]
    worth = torch.randn(20, 10, 17, generator=torch.Generator().manual_seed(0))
    judges = mode.startswith(("best", "plan"))
    env, policy = doorkey_at_the_starts_of(demo), Replay(demo, 4, worth if judges else None)
    begins, observe = [], env.observe
    env.observe = lambda: begins.append(len(policy.shown)) or observe()
    target = env.dataset_returns(demo) + 3  # more than it will earn
    condition = rollout.condition_of(other, mode, 4) if ahead else None
    options = {"condition": condition, "quantile": 0.8, "candidates": 1}
    rollout.play(policy, env, mode, target, torch.Generator().manual_seed(0), **options)
    # The first question of each step; in mode best it is about a return, and the action comes next.
    asked = [policy.shown[begin + mode.startswith("best")] for begin in begins]
    assert len(asked) == 10 and (judges or len(policy.shown) == 10)
    for t, (values, see, at) in enumerate(asked):
        first = max(0, t - 3)
        assert at.tolist() == [t - first] * 20
        assert torch.equal(values["timestep"][0], first + torch.arange(4))
        for k, time in enumerate(range(first, first + 4)):  # each timestep of the window
            known = time <= t
            expected = {
                "agent_pos": known or time in ahead,
                "key_pos": known or time in ahead,
                "action": past_actions and time < t,
                "return_to_go": {"none": False, "first": k == 0, "all": known}[returns],
            }
            for name, shown in expected.items():
                assert (see[name][:, k] == shown).all(), (name, t, time)
                if not shown:
                    continue
                told = torch.as_tensor((demo if known else other).values[name][:, time])
                if name == "return_to_go":  # what was earned so far is no more to be earned
                    best = by_hand(worth[:, first], 0.8)
                    told = best if judges else (told + 3).clamp(max=16)
                assert torch.equal(values[name][:, k], told), (name, t, time)


@pytest.mark.parametrize(
    "task, mode", [("behavior_cloning", ""), ("behavior_cloning_states", "_states")]
)
def test_whoever_learned_with_the_return_of_each_state_is_played_as_it_was_trained(task, mode):
    demo = doorkey.make_dataset(3, seed=4)
    env, policy = doorkey_at_the_starts_of(demo), Replay(demo, 4)
    rollout.play(policy, env, f"rc_all{mode}", env.dataset_returns(demo))
    drawn = masks.draw(task, 200, 4, torch.Generator().manual_seed(0), returns="with_state")
    drawn = {tuple(see.flatten().tolist()) for see in drawn[0]}
    played = set()
    for _, see, _ in policy.shown:
        groups = [see[name][0] for name in ("agent_pos", "action", "return_to_go")]
        played.add(tuple(torch.stack(groups, dim=-1).flatten().tolist()))
    assert played == drawn and len(drawn) == 4


def by_hand(logits, quantile):
    """The highest class at or above which lies at least 1 - quantile: (n,), in loops."""
    found = []
    for p in logits.double().softmax(dim=-1).tolist():
        top, above = len(p) - 1, p[-1]
        while above < 1 - quantile:
            top -= 1
            above += p[top]
        found.append(top)
    return torch.tensor(found)


def test_a_model_that_is_asked_for_its_best_is_asked_first_what_that_is():
    """The same question at the window's first timestep, with the return hidden."""
    demo = doorkey.make_dataset(5, seed=4)
    policy = Replay(demo, 4, torch.zeros(5, 10, 17))
    rollout.play(policy, doorkey_at_the_starts_of(demo), "best")
    for t, (before, after) in enumerate(zip(policy.shown[::2], policy.shown[1::2])):
        (values, see, at), (values_after, see_after, at_after) = before, after
        assert at.tolist() == [0] * 5 and at_after.tolist() == [min(t, 3)] * 5
        assert not see["return_to_go"].any() and see_after["return_to_go"][:, 0].all()
        for name in ("agent_pos", "key_pos", "action"):
            assert torch.equal(see[name], see_after[name])
            assert torch.equal(values[name], values_after[name])


def test_a_condition_is_shown_until_the_world_gets_there():
    """A state ahead is seen, a known action is carried out, and neither outlives its timestep."""
    demo = doorkey.make_dataset(5, seed=6)
    env, policy = doorkey_at_the_starts_of(demo), Replay(demo, context=4)
    policy.action = torch.zeros(5, 10, dtype=torch.int64)
    blank = {f.name: torch.zeros(1, 4, dtype=torch.int64) for f in demo.factors}
    hidden = {f.name: torch.zeros(1, 4, dtype=torch.bool) for f in demo.factors}
    blank["agent_pos"][0, 3], hidden["agent_pos"][0, 3] = 15, True
    blank["action"][0, 1], hidden["action"][0, 1] = 2, True
    values, rewards = rollout.play(policy, env, condition=(blank, hidden), horizon=6)
    assert rewards.shape == (5, 6) and values["action"].shape == (5, 6)
    assert (values["action"][:, 1] == 2).all() and (values["action"][:, [0, 2, 3, 4, 5]] == 0).all()
    assert len(policy.shown) == 5, "nobody is asked what is known"
    for t, (shown, see, _) in zip((0, 2), policy.shown):
        assert see["agent_pos"][:, 3].all() and (shown["agent_pos"][:, 3] == 15).all(), t
        assert see["action"][:, 1].all()
    shown, see, at = policy.shown[2]  # at t=3 the world says where the agent is
    assert at[0] == 3 and torch.equal(shown["agent_pos"][:, 3], values["agent_pos"][:, 3])
    shown, see, at = policy.shown[3]  # and at t=4 nothing ahead is known any more
    assert at[0] == 3 and torch.equal(see["action"][0], torch.tensor([True, True, True, False]))
    assert torch.equal(shown["agent_pos"], values["agent_pos"][:, 1:5])


@pytest.mark.skipif(not importlib.util.find_spec("d4rl"), reason="needs requirements-maze.txt")
def test_replayed_expert_actions_earn_the_experts_return():
    demo = maze2d.make_dataset(10, seed=6)
    env = worlds.environment("maze2d-medium", 10, 0)
    first = {name: demo.values[name][:, 0] for name in ("position", "goal")}
    env.set_state(first["position"], demo.extras["start_velocity"], first["goal"])
    policy = Replay(demo, context=5)
    _, rewards = rollout.play(policy, env, mode="bc_states")
    earned = env.dataset_returns(demo)
    np.testing.assert_allclose(rewards.sum(axis=1), earned, rtol=0, atol=1e-6)
    values, see, _ = policy.shown[-1]
    recorded = torch.as_tensor(demo.values["position"][:, -5:])
    assert torch.equal(values["position"], recorded)  # the recorded path, to the bit
    assert not see["action"].any()


# ---- the return to ask for -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "shares, quantile, expected",
    [
        ([0.2, 0.5, 0.25, 0.05], 0.5, 1),
        ([0.2, 0.5, 0.25, 0.05], 0.9, 2),
        ([0.2, 0.5, 0.25, 0.05], 0.96, 3),
        ([0.2, 0.5, 0.25, 0.05], 0.05, 0),
        ([0.3, 0.0, 0.7, 0.0], 0.999, 2),
        ([1.0, 0.0, 0.0, 0.0], 0.999, 0),
    ],
)
def test_the_upper_class_is_the_highest_that_is_likely_enough(shares, quantile, expected):
    """At or above it lies 1 - quantile."""
    worth = Factor("worth", "RETURN", "categorical", 4)
    outputs = {"worth": torch.tensor(shares).log()[None, None]}  # (1, 1, 4)
    assert rollout.upper(worth, outputs, quantile).tolist() == [expected]


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_the_upper_quantile_is_that_of_each_row_alone(quantile):
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(200, 1, 17, generator=generator)
    found = rollout.upper(doorkey.factors()[3], {"return_to_go": logits}, quantile)
    assert torch.equal(found, by_hand(logits[:, 0], quantile)) and len(found.unique()) > 5
    mean, log_variance = torch.randn(2, 200, 1, 2, generator=generator)
    outputs = {"worth": mean, "worth/log_variance": log_variance}
    found = rollout.upper(Factor("worth", "RETURN", "continuous", 2), outputs, quantile)
    both = zip(mean[:, 0, 0].tolist(), log_variance[:, 0, 0].tolist())
    expected = [NormalDist(m, np.exp(v / 2)).inv_cdf(quantile) for m, v in both]
    assert found.shape == (200,) and found.tolist() == pytest.approx(expected)


class Sure(torch.nn.Module):
    """It always does 1, and answers to returns with a Gaussian for each episode and timestep."""

    def __init__(self, n, log_variance):
        super().__init__()
        self.factors = [*WIDE, Factor("return_to_go", "RETURN", "continuous", 2)]
        head = "mean" if log_variance is None else "gaussian"
        self.config, self.predicted = SimpleNamespace(context=3, head=head), self.factors
        self.device_of = torch.nn.Parameter(torch.zeros(1))
        self.mean = torch.randn(n, 10, 2, generator=torch.Generator().manual_seed(0))
        self.log_variance, self.asked = log_variance, []

    def forward(self, values, see, at):
        worth, rows, times = "return_to_go", torch.arange(len(at)), values["timestep"][0, at]
        if see[worth].any():
            self.asked.append((values[worth].clone(), see[worth].clone()))
        outputs = {f.name: torch.ones(len(at), 1, f.size) for f in self.factors}
        outputs[worth] = self.mean[rows, times][:, None]
        if self.log_variance is not None:
            outputs[f"{worth}/log_variance"] = torch.full((len(at), 1, 2), self.log_variance)
        return outputs


@pytest.mark.parametrize("mode", ["rc", "rc_all", "best"])
def test_returns_that_are_numbers_are_asked_for_with_their_timestep(mode):
    """Less what was earned before it; or the upper quantile of the network's own Gaussian."""
    network = Sure(4, log_variance=np.log(0.25))
    env, target = worlds.GymEnv("Wide-v0", 4, 0, network.factors), np.arange(7.0, 11.0)
    rollout.play(network, env, mode, target, quantile=0.9)
    assert len(network.asked) == 10
    for t, (values, see) in enumerate(network.asked):
        first = max(0, t - 2)
        times = range(first, t + 1) if mode == "rc_all" else [first]
        assert see.tolist() == [[first + k in times for k in range(3)]] * 4
        for time in times:
            expected = torch.from_numpy(target - time).float()
            if mode == "best":
                expected = network.mean[:, time, 0] + NormalDist(0, 0.5).inv_cdf(0.9)
            torch.testing.assert_close(values[:, time - first, 0], expected)
            assert (values[:, time - first, 1] == time).all()


def test_a_mere_mean_cannot_be_asked_for_its_best():
    network = Sure(4, log_variance=None)
    env = worlds.GymEnv("Wide-v0", 4, 0, network.factors)
    with pytest.raises(ValueError, match="best.*gaussian"):
        rollout.play(network, env, "best")


@pytest.mark.parametrize("mode", ["rc", "rc_all_states", "plan", "goal", "waypoint_states"])
def test_a_mode_without_what_it_needs_is_refused(mode):
    shape = dict(return_weight=1.0, context=4, n_layer=1, head="gaussian")
    network = small.build(shape, Sure(4, None).factors)
    env = worlds.GymEnv("Wide-v0", 4, 0, network.factors)
    with pytest.raises(ValueError, match=f"mode {mode} lacks something: .* needs? "):
        rollout.play(network, env, mode)


@pytest.mark.parametrize("mode", ["best", "plan", "best_states", "plan_states"])
def test_what_a_mere_mean_cannot_be_asked_for_is_refused_before_it_plays(mode):
    """Its plans would be one and the same."""
    factors, shape = Sure(4, None).factors, dict(return_weight=1.0, context=4, n_layer=1)
    for head in ("mean", "median"):
        network = small.build(shape | {"head": head}, factors)
        with pytest.raises(ValueError, match=f"{mode}.*gaussian"):
            rollout.begin(network, "", None, 3, 0, mode, env_id="Wide-v0")
    network = small.build(shape | {"head": "gaussian"}, factors)
    env, game = rollout.begin(network, "", None, 3, 0, mode, env_id="Wide-v0")
    assert env.n == 3 and game["mode"] == mode


@pytest.mark.parametrize("mode", ["best", "best_states"])
@pytest.mark.parametrize("factors", [doorkey.factors(), doorkey.factors()[:3]])
def test_who_predicts_no_returns_cannot_be_asked_for_its_best(mode, factors):
    """Whether its data have returns or not."""
    demo = doorkey.make_dataset(3, seed=4)
    values = {f.name: demo.values[f.name] for f in factors}
    policy = Replay(Trajectories(factors, values), context=4)
    with pytest.raises(ValueError, match="best.*does not predict returns"):
        rollout.play(policy, doorkey_at_the_starts_of(demo), mode)
    assert not policy.shown


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2", ["2"]),
        ("-1.5", ["-1.5"]),
        ("x0", ["x0"]),
        ("2,4", ["2", "4"]),
        ("x1.2, 1e1", ["x1.2", "1e1"]),
    ],
)
def test_targets_are_numbers_and_factors(text, expected):
    assert rollout.parse_targets(text) == expected


WRONG = ["", " ", ",", "2,", "2,,4", "x", "xx", "xx2", "2x", "x2x", "two", "None"]
WRONG += ["nan", "inf", "-inf", "xnan", "xinf", "1e400", "x1e400", "2,nan"]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_target_is_refused(text):
    with pytest.raises(ValueError, match="target_return=.* is not like 2 or x0.8"):
        rollout.parse_targets(text)


@pytest.mark.parametrize(
    "factor, expected",
    [
        (1.2, [-10, -5, 0, 12, 24]),  # better than what was earned, whatever its sign
        (0.8, [-15, -7.5, 0, 8, 16]),  # worse
        (1, [-12, -6, 0, 10, 20]),
        (0, [0, 0, 0, 0, 0]),
    ],
)
def test_a_factor_makes_targets_of_what_the_nearest_start_earned(factor, expected):
    places = np.array([[0.1], [1.2], [1.9], [3.4], [9.0]])
    env = SimpleNamespace(
        start_features=lambda: places[::-1].copy(),
        dataset_features=lambda train: np.array([[4.0], [0.0], [1.0], [2.0], [3.0]]),
        dataset_returns=lambda train: np.array([20.0, -12.0, -6.0, 0.0, 10.0]),
    )
    train = SimpleNamespace(with_known_starts=lambda groups: None)
    np.testing.assert_allclose(rollout.target_returns(env, train, factor), expected[::-1])


def test_a_return_that_is_not_known_is_no_target():
    demos, known = doorkey.make_dataset(300, seed=4), np.ones((300, 10), dtype=bool)
    known[::2] = False
    earned = np.where(known, demos.values["return_to_go"], 0)
    values = demos.values | {"return_to_go": earned, "return_to_go/known": known}
    env = doorkey.DoorKey(30, seed=1)
    found = rollout.target_returns(env, replace(demos, values=values), 1.0)
    np.testing.assert_array_equal(found, rollout.target_returns(env, demos[1::2], 1.0))


@pytest.mark.parametrize("target, earned", [("1", 1), ("2", 2), ("x0", 0)])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("mode", ["rc", "rc_all"])
def test_a_perfect_model_earns_in_every_episode_what_it_is_asked_for(mode, target, earned, sampled):
    train = doorkey.make_dataset(20, seed=4)
    options = dict(modes=[mode], target=target, sampled=sampled)
    found = rollout.measure(bayes.ExactModel(), "doorkey", train, 50, 8, **options)[mode]
    assert found["return"] == {"mean": earned, "sem": 0}


def test_a_perfect_model_earns_the_best_return_of_each_start_if_asked_for_it():
    env = doorkey.DoorKey(300, seed=1)
    best = doorkey.best_return(env.state)
    _, rewards = rollout.play(bayes.ExactModel(), env, "rc", best)
    assert best.min() < 5 and best.max() > 8
    np.testing.assert_array_equal(rewards.sum(axis=1), best)


class Asked(bayes.ExactModel):
    """A perfect model, and the returns that it was asked for."""

    def forward(self, values, see, at=None):
        if see["return_to_go"].any():
            self.returns_asked.append(values["return_to_go"][:, 0] - doorkey.RETURN_OFFSET[6])
        return super().forward(values, see, at)


def test_a_perfect_model_that_asks_itself_earns_what_is_rare_but_possible():
    """More than a demonstrator, and never more than can be: in the end just what it asks for."""
    env, network = doorkey.DoorKey(20, seed=1), Asked(returns=True)
    network.returns_asked = []
    best, begin = doorkey.best_return(env.state), rollout.blank(network.factors, 20, 10)
    for name, observed in env.observe().items():
        begin[0][name][:, 0], begin[1][name][:, 0] = torch.as_tensor(observed), True
    likely = network(*begin)["return_to_go"][:, 0]
    seeded = lambda: torch.Generator().manual_seed(0)
    _, rewards = rollout.play(network, env, "best", generator=seeded(), quantile=0.98)
    asked, earned = np.array(network.returns_asked), rewards.sum(axis=1)
    assert asked.shape == (10, 20) and (asked <= best).all()
    np.testing.assert_array_equal(asked[0], by_hand(likely, 0.98) - doorkey.RETURN_OFFSET[6])
    np.testing.assert_array_equal(asked[9], earned)
    _, cloned = rollout.play(network, doorkey.DoorKey(20, seed=1), "bc", generator=seeded())
    assert earned.mean() > cloned.sum(axis=1).mean() + 2


class Dreamer(Replay):
    """Anything may happen to it, but of the actions now its recorded one is worth most."""

    def forward(self, values, see, at):
        super().forward(values, see, at)
        now = min(self.step, values["action"].shape[1] - 1)  # its place in the window
        copies = len(at) // len(self.action)
        recorded = self.action[:, self.step].repeat_interleave(copies)
        answers = {f.name: torch.zeros(len(at), 1, f.size) for f in self.factors}
        answers["return_to_go"][:, 0, 16] = 5.0 * (values["action"][:, now] == recorded)
        return answers


@pytest.mark.parametrize("mode, past_actions", [("plan", True), ("plan_states", False)])
def test_who_plans_begins_the_completion_of_which_it_expects_most(mode, past_actions):
    """It judges each of them when it is whole, by the return from the window's start on."""
    demo = doorkey.make_dataset(6, seed=4)
    env, policy = doorkey_at_the_starts_of(demo), Dreamer(demo, 4, torch.zeros(6, 10, 17))
    policy.step, step = 0, env.step

    def counted(action):
        (_, see, at), now = policy.shown[-1], min(policy.step, 3)
        assert at.tolist() == [0] * 6 * 40 and not see["return_to_go"].any()
        assert see["agent_pos"].all() and see["key_pos"].all() and see["action"][:, now:].all()
        assert (see["action"][:, :now] == past_actions).all()
        policy.step += 1
        return step(action)

    env.step, generator = counted, torch.Generator().manual_seed(0)
    values, _ = rollout.play(policy, env, mode, generator=generator, candidates=40)
    assert torch.equal(values["action"], policy.action) and policy.step == 10


# ---- demonstrations to follow --------------------------------------------------------------------


AHEAD = {"goal": [9], "waypoint": [0, 3, 6, 9]}  # of ten timesteps


@pytest.mark.parametrize("seen", ["", "_states"])
@pytest.mark.parametrize("asked", AHEAD)
def test_an_episode_follows_a_demonstration_from_its_start(asked, seen):
    """As many as there are. Each is shown the states ahead of its own, and measured by them."""
    demos, mode = doorkey.make_dataset(30, seed=7), asked + seen
    for episodes in (12, 50):
        policy = Replay(demos[: min(episodes, 30)], context=10)
        found = rollout.measure(policy, "doorkey", None, episodes, 0, [mode], demos=demos)[mode]
        n = min(episodes, 30)
        values, see, _ = policy.shown[0]
        times = [0] + [t for t in AHEAD[asked] if t > 0]
        for name in ("agent_pos", "key_pos"):
            assert see[name].nonzero().tolist() == [[row, t] for row in range(n) for t in times]
            recorded = torch.as_tensor(demos.values[name][:n, times])
            assert torch.equal(values[name][:, times], recorded)
            assert found[f"met_{name}"] == {"mean": 1, "sem": 0}, "what it did is what they did"
        own = demos.values["return_to_go"][:n, 0] - doorkey.RETURN_OFFSET[6]
        assert found["return"]["mean"] == pytest.approx(own.mean())
        assert found["return"]["sem"] == pytest.approx(own.std(ddof=1) / np.sqrt(n))
        assert len(policy.shown) == 10
        for t, (_, see, _) in enumerate(policy.shown):
            expected = (torch.arange(10) < t) & (not seen)
            assert torch.equal(see["action"], expected.expand(n, 10))


@pytest.mark.parametrize("mode", ["goal", "waypoint", "goal_states", "waypoint_states"])
def test_a_perfect_model_gets_where_its_demonstration_got(mode):
    demos = doorkey.make_dataset(30, seed=8)
    found = rollout.measure(bayes.ExactModel(), "doorkey", None, 30, 0, [mode], demos=demos)[mode]
    assert found["met_agent_pos"] == found["met_key_pos"] == {"mean": 1, "sem": 0}


@pytest.mark.skipif(not importlib.util.find_spec("d4rl"), reason="needs requirements-maze.txt")
def test_in_the_maze_it_is_told_by_how_far_a_goal_was_missed():
    demos = maze2d.make_dataset(6, seed=6)
    policy = Replay(demos, context=5)
    found = rollout.measure(policy, "maze2d-medium", None, 6, 0, ["goal"], demos=demos)["goal"]
    assert len(policy.shown) == 5, "to be there by the end of the window"
    values, see, _ = policy.shown[0]
    for name in ("position", "goal"):
        assert see[name].tolist() == [[True, False, False, False, True]] * 6
        recorded = torch.as_tensor(demos.values[name][:, [0, 4]])
        assert torch.equal(values[name][:, [0, 4]], recorded)
    # from where it was, at the speed that it had, it gets where it did
    assert found["missed_goal"]["mean"] == 0 and found["missed_position"]["mean"] < 1e-6
    slower = replace(demos, extras={"start_velocity": 0 * demos.extras["start_velocity"]})
    found = rollout.measure(policy, "maze2d-medium", None, 6, 0, ["goal"], demos=slower)["goal"]
    assert 1e-3 < found["missed_position"]["mean"] < 0.1


@pytest.mark.parametrize("mode", ["goal", "waypoint"])
def test_only_demonstrations_that_know_what_is_shown_are_led_to_it(mode):
    demos = doorkey.make_dataset(8, seed=6)
    short, first, ahead = 1, 3, 4
    lengths = demos.lengths.copy()
    lengths[short] = 9
    known = {f.name: np.ones((8, 10), dtype=bool) for f in demos.factors}
    known["agent_pos"][first, 0] = known["key_pos"][ahead, 9] = False
    known["key_pos"][0, 4] = False  # not shown by either mode
    values = demos.values | {f"{name}/known": x for name, x in known.items()}
    some = replace(demos, lengths=lengths, values=values)
    _, game = rollout.begin(Replay(demos, 10), "doorkey", None, 4, 0, mode, demos=some)
    shown, _ = game["condition"]
    assert np.array_equal(shown["agent_pos"], demos.values["agent_pos"][[0, 2, 5, 6]])
    with pytest.raises(ValueError, match=f"mode {mode}: no demonstration"):
        rollout.begin(Replay(demos, 10), "doorkey", None, 4, 0, mode, demos=some[[short, ahead]])


def test_arrivals_are_shares_of_classes_met_and_distances_of_numbers():
    """At the timesteps that were shown of each factor, but the first. In loops."""
    rng, n, T = np.random.default_rng(0), 6, 5
    room = Factor("room", "STATE", "categorical", 2)
    place = Factor("place", "STATE", "continuous", 2)
    see = {
        "room": torch.tensor([[1, 0, 1, 1, 0]]) > 0,
        "place": torch.tensor([[1, 1, 0, 0, 1]]) > 0,
    }
    did, wanted = (
        {
            "room": torch.from_numpy(rng.integers(0, 2, (n, length))),
            "place": torch.from_numpy(rng.normal(size=(n, length, 2))).float(),
        }
        for length in (T + 2, T)
    )
    found = rollout.arrivals(did, (wanted, see), [room, place])
    assert list(found) == ["met_room", "missed_place"]
    for row in range(n):
        met = [float(did["room"][row, t] == wanted["room"][row, t]) for t in (2, 3)]
        assert found["met_room"][row] == pytest.approx(sum(met) / 2)
        away = [(did["place"][row, t] - wanted["place"][row, t]).tolist() for t in (1, 4)]
        expected = sum(np.hypot(*x) for x in away) / 2
        assert found["missed_place"][row] == pytest.approx(expected, rel=1e-6)
    assert 0 < found["met_room"].mean() < 1


@pytest.mark.parametrize("mode", ["goal", "waypoint", "goal_states", "waypoint_states"])
def test_no_demonstration_is_followed_where_episodes_begin_anywhere(mode):
    values = {"observation": np.zeros((3, 10, 1), np.float32)}
    values["action"] = values["observation"]
    demos = Trajectories(WIDE, values)
    with pytest.raises(ValueError, match=f"mode {mode}: .* Wide-v0 begins where it likes"):
        rollout.measure(Replay(demos, 4), "", None, 3, 0, [mode], env_id="Wide-v0", demos=demos)


# ---- drawn, or the most probable -----------------------------------------------------------------


class Torn(Replay):
    """Right is the most probable action, and not by much."""

    def forward(self, values, see, at):
        super().forward(values, see, at)
        return {"action": torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(len(at), 1, 4)}


@pytest.mark.parametrize("sampled, expected", [(True, {0, 1, 2, 3}), (False, {0})])
def test_actions_are_drawn_or_the_most_probable_and_the_same_again(sampled, expected):
    demo, results = doorkey.make_dataset(200, seed=4), []
    for _ in range(2):
        torch.manual_seed(len(results))  # which is not what decides
        policy = Torn(demo, context=10)
        results.append(rollout.measure(policy, "doorkey", demo, 200, 0, sampled=sampled))
        actions = policy.shown[-1][0]["action"][:, :9]
        assert set(actions.unique().tolist()) == expected
        shares = actions.flatten().bincount(minlength=4) / actions.numel()
        assert not sampled or shares.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.04)
    assert results[0] == results[1]


# ---- the bounds of actions -----------------------------------------------------------------------


@pytest.mark.parametrize("script", ["rollout.py", "sample.py"])
def test_actions_may_be_as_large_as_the_environment_allows(script, run_warm, tmp_path):
    """A model of somebody who always does 1.75 earns 17.5, whoever lets it act."""
    values = {"observation": np.zeros((20, 10, 1)), "action": np.full((20, 10, 1), 1.75)}
    values = {name: x.astype(np.float32) for name, x in values.items()}
    Trajectories(WIDE, values).save(str(tmp_path / "wide.npz"))
    flags = "--dataset=wide.npz --num_trajectories=0 --task=random_bc --learning_rate=1e-2 "
    flags += "--out_dir=run --max_iters=100 --eval_interval=50 --eval_tasks=behavior_cloning"
    good(run_warm("train.py", *TINY, *flags.split(), cwd=tmp_path))
    play = {"rollout.py": "--episodes=2 --modes=bc", "sample.py": "--world --samples=2"}[script]
    line = [script, "--out_dir=run", "--env=Wide-v0", *play.split()]
    text = good(run_warm(*line, cwd=tmp_path)).stdout
    earned = float(text.split("return ")[1].split()[0])
    assert earned == pytest.approx(17.5, abs=1.0)


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(run_warm, tmp_path_factory):
    """A folder with a run that has learned to act, and has an answer to returns, if a bad one."""
    here = tmp_path_factory.mktemp("trained")
    flags = (
        "--out_dir=run --task=random_return --return_weight=1 --max_iters=60 --learning_rate=1e-2"
    )
    good(run_warm("train.py", *TINY, *flags.split(), cwd=here))
    return here


def played(run_warm, trained, *flags):
    """The lines that rollout.py prints, and what it writes."""
    process = good(run_warm("rollout.py", "--out_dir=run", "--episodes=20", *flags, cwd=trained))
    return process.stdout.splitlines(), json.loads((trained / "run" / "rollouts.json").read_text())


def test_the_command_plays_each_mode_and_writes_what_it_prints(run_warm, trained):
    """A mode that is asked for a return has a row for each, the others have one."""
    flags = f"--modes={','.join(rollout.MODES)}", "--target_return=2,x0.8", "--candidates=2"
    lines, rows = played(run_warm, trained, *flags)
    expected = []
    for mode in rollout.MODES:
        returns = ["2", "x0.8"] if mode.startswith("rc") else []
        expected += [f"{mode}, asked for {text}" for text in returns] or [mode]
    assert list(rows) == expected and len(lines) == len(expected)
    for line, (label, measures) in zip(lines, rows.items()):
        met = {"met_agent_pos", "met_key_pos"} if label.startswith(("goal", "waypoint")) else set()
        assert set(measures) == {"return", "key", "door", "goal"} | met
        assert -6 <= measures["return"]["mean"] <= 10 and measures["return"]["sem"] > 0
        assert line.startswith(f"{label} ")
        for name, x in measures.items():
            assert f" {name} {x['mean']:.3f} +- {x['sem']:.3f}" in line
    assert played(run_warm, trained, *flags) == (lines, rows), "the same episodes, the same draws"


def test_one_return_to_ask_for_makes_one_row_by_the_name_of_its_mode(run_warm, trained):
    found = {}
    for target in ("-5", "0", "10", "x1.2"):
        flags = "--modes=rc,rc_all,bc", f"--target_return={target}"
        _, found[target] = played(run_warm, trained, *flags)
        assert list(found[target]) == ["rc", "rc_all", "bc"]
    for mode, answers in (("rc", 3), ("rc_all", 3), ("bc", 1)):
        assert len({str(found[target][mode]) for target in ("-5", "0", "10")}) == answers
    assert played(run_warm, trained, "--modes=rc,rc_all,bc")[1] == found["x1.2"], "the default"


def test_a_file_of_a_world_is_played_in_that_world_into_a_file_of_choice(run_warm, tmp_path):
    doorkey.make_dataset(40, seed=3).save(tmp_path / "demos.npz")
    flags = *TINY, "--dataset=demos.npz", "--num_trajectories=0", "--out_dir=run", "--max_iters=1"
    good(run_warm("train.py", *flags, "--eval_rollouts=2", cwd=tmp_path))
    flags = "--out_dir=run", "--episodes=3", "--modes=bc, rc", "--out=mine.json"
    good(run_warm("rollout.py", *flags, cwd=tmp_path))
    assert list(json.loads((tmp_path / "mine.json").read_text())) == ["bc", "rc"]
    assert not (tmp_path / "run" / "rollouts.json").exists()


def test_who_has_two_actions_cannot_act():
    factors = [*doorkey.factors(), Factor("grip", "ACTION", "categorical", 2)]
    with pytest.raises(ValueError, match="one ACTION factor, not 2"):
        rollout.check_mode(small.build(dict(context=4), factors), "bc")


@pytest.mark.parametrize("target", ["x1.2", "9"])
def test_a_mode_that_cannot_be_played_is_refused_before_any_is(target, run_warm, refused, tmp_path):
    generator = np.random.default_rng(0)
    factors = (
        Factor("observation", "STATE", "continuous", 4),
        Factor("action", "ACTION", "categorical", 2),
    )
    values = {"observation": generator.normal(size=(20, 12, 4)).astype(np.float32)}
    values["action"] = generator.integers(2, size=(20, 12))
    Trajectories(factors, values).save(tmp_path / "demos.npz")  # without returns
    flags = *TINY, "--dataset=demos.npz", "--num_trajectories=0", "--out_dir=run", "--max_iters=1"
    good(run_warm("train.py", *flags, "--task=behavior_cloning", cwd=tmp_path))
    flags = "--out_dir=run", "--env=CartPole-v1", "--modes=bc,rc", f"--target_return={target}"
    process = run_warm("rollout.py", *flags, "--episodes=2", cwd=tmp_path)
    assert "knows no return_to_go" in refused(process) and not process.stdout


@pytest.mark.parametrize(
    "flag, changed, same",
    [("--sampled=False", ["bc"], []), ("--quantile=0.5", ["best"], ["bc"]),
     ("--candidates=1", ["plan"], ["bc"])],
)  # fmt: skip
def test_a_setting_changes_the_modes_that_it_is_about(flag, changed, same, run_warm, trained):
    modes = f"--modes={','.join(changed + same)}"
    with_it, without = (played(run_warm, trained, modes, *flags)[1] for flags in ([flag], []))
    assert [mode for mode in with_it if with_it[mode] != without[mode]] == changed


# ---- scores --------------------------------------------------------------------------------------


def test_a_score_is_0_at_one_reference_and_100_at_the_other():
    half = rollout.score({"mean": 3.0, "sem": 0.5}, None, 2.0, 4.0)
    assert half == {"score": {"mean": 50.0, "sem": 25.0}}
    assert rollout.score({"mean": 3.0, "sem": None}, "Mine-v0", -1, 1)["score"]["sem"] is None
    known = rollout.score({"mean": 3234.3, "sem": 1.0}, "Hopper-v5")["score"]
    assert known["mean"] == pytest.approx(100) and known["sem"] == pytest.approx(0.0307, rel=1e-2)
    assert rollout.score({"mean": 3.0, "sem": 0.5}, "Mine-v0") == {}
    assert rollout.score({"mean": 3.0, "sem": 0.5}, None) == {}


@pytest.mark.parametrize("pair", [(1, None), (None, 2), (2, 1), (1, 1), ("a", 2), (0, math.inf)])
def test_references_are_two_numbers_in_order(pair):
    with pytest.raises(ValueError, match="ref_min"):
        rollout.score({"mean": 3.0, "sem": 0.5}, "Hopper-v5", *pair)
