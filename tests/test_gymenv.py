"""Playing in any Gymnasium environment: what a policy earns there, what it may see, and what does not fit."""

import json
import os

import gymnasium
import numpy as np
import pytest
import torch
from test_import import write_hdf5

import data
import evaluate
from data import Factor, Trajectories
from gymenv import GymEnv
from model import ModelConfig, build


class Countdown(gymnasium.Env):
    """Starts at a number from 1 to 5 and counts down; at 0 the episode is over. A step earns its action."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 3, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.np_random.integers(1, 6)
        return np.float32([self.left, 0]), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left -= 1
        return np.float32([self.left, 1]), float(action[0]), self.left == 0, False, {}


class Long(Countdown):
    """A Countdown that never arrives."""

    def step(self, action):
        self.left = 9
        return super().step(action)


class Named(Countdown):
    """A Countdown with a dictionary of observations and actions of two classes, which earn their number."""

    observation_space = gymnasium.spaces.Dict(
        place=gymnasium.spaces.Box(-9, 9, (2,)), room=gymnasium.spaces.Discrete(3)
    )
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        return {"place": super().reset(seed=seed)[0], "room": 2}, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left -= 1
        return {"place": np.float32([self.left, 1]), "room": 2}, float(action), self.left == 0, False, {}


class Tupled(Countdown):
    observation_space = gymnasium.spaces.Tuple([Countdown.observation_space] * 2)


gymnasium.register("Countdown-v0", Countdown, max_episode_steps=30)
gymnasium.register("Endless-v0", Countdown)
gymnasium.register("Long-v0", Long, max_episode_steps=30)
gymnasium.register("Named-v0", Named, max_episode_steps=30)
gymnasium.register("Tuple-v0", Tupled, max_episode_steps=30)
FACTORS = [
    Factor("observation", "STATE", "continuous", 2),
    Factor("action", "ACTION", "continuous", 1),
    Factor("return_to_go", "RETURN", "continuous", 2),
]


class Constant(torch.nn.Module):
    """A policy that always takes the same action, and keeps the windows that it is shown."""

    def __init__(self, action, factors=FACTORS, context=4):
        super().__init__()
        self.config, self.factors, self.action, self.shown = ModelConfig(context=context), factors, action, []
        self.device_of = torch.nn.Parameter(torch.zeros(1))

    def forward(self, values, see, only):
        self.shown.append({name: value.clone() for name, value in values.items()})
        return {"action": torch.tensor([[self.action]]).repeat(len(see), 1, 1)}


def test_an_episode_that_is_over_earns_nothing():
    env, policy = GymEnv("Countdown-v0", 20, 3, FACTORS), Constant(1.0)
    starts = env.observe()["observation"][:, 0].astype(int)
    assert len(set(starts)) > 3
    rewards = evaluate.rollout(policy, env)
    assert len(policy.shown) == starts.max()  # when all are over, nobody is asked any more
    np.testing.assert_array_equal(rewards, np.arange(30) < starts[:, None])
    np.testing.assert_array_equal(env.report()["length"], starts)


@pytest.mark.parametrize("action, done", [(10.0, 3.0), (-10.0, -2.0), (2.5, 2.5)])
def test_continuous_actions_are_clipped_to_the_environments_bounds(action, done):
    env, policy = GymEnv("Countdown-v0", 5, 3, FACTORS), Constant(action)
    starts = env.observe()["observation"][:, 0]
    np.testing.assert_array_equal(evaluate.rollout(policy, env).sum(axis=1), done * starts)
    if starts.max() > 1:
        assert (policy.shown[1]["action"][:, 0] == done).all()  # what is remembered is what was done
    _, rewards = GymEnv("Countdown-v0", 2, 3, FACTORS).step(np.full((2, 1), action, dtype=np.float32))
    assert (rewards == done).all()


def test_the_same_seed_plays_the_same_episodes():
    play = lambda seed: evaluate.rollout(Constant(1.0), GymEnv("Countdown-v0", 20, seed, FACTORS))
    assert (play(3) == play(3)).all() and (play(3) != play(4)).any()


def test_a_target_counts_down_as_rewards_come_in():
    env, policy = GymEnv("Countdown-v0", 20, 3, FACTORS), Constant(1.0, context=2)
    rewards = evaluate.rollout(policy, env, "rc", targets=np.full(20, 7.0))
    for t, values in enumerate(policy.shown):
        first = max(0, t - 1)
        expected = np.stack([7 - rewards[:, :first].sum(axis=1), np.full(20, first)], axis=1)
        np.testing.assert_array_equal(values["return_to_go"][:, 0], expected)


def test_targets_are_better_than_what_the_nearest_start_earned():
    env = GymEnv("Countdown-v0", 20, 3, FACTORS)
    values = {"observation": np.zeros((5, 2, 2)), "action": np.zeros((5, 2, 1)), "return_to_go": np.zeros((5, 2, 2))}
    values["observation"][:, 0, 0] = np.arange(1, 6)
    values["return_to_go"][:, 0, 0] = [-12, -6, 0, 10, 20]
    shown = Trajectories(FACTORS, {name: array.astype(np.float32) for name, array in values.items()})
    starts = env.observe()["observation"][:, 0].astype(int)
    np.testing.assert_allclose(evaluate.target_returns(env, shown), np.array([-10, -5, 0, 12, 24])[starts - 1])


@pytest.mark.parametrize(
    "settings", [{"positions": "timestep", "max_timestep": 8}, {"positions": "learned"}, {"model": "dt"}]
)
def test_rollouts_may_be_longer_than_anything_in_training(settings):
    model = build(ModelConfig(context=4, n_layer=1, n_embd=16, n_head=2, n_ff=16, **settings), FACTORS).eval()
    env = GymEnv("Long-v0", 3, 0, FACTORS)
    rewards = evaluate.rollout(model, env, "rc", targets=np.ones(3))
    assert rewards.shape == (3, 30) and (env.length == 30).all() and rewards[:, -1].all()


@pytest.mark.parametrize("rooms", [3, 2], ids=["all rooms known", "a room that the data lack"])
def test_dictionaries_and_classes_are_played_by_their_names(rooms):
    states = [Factor("place", "STATE", "continuous", 2), Factor("room", "STATE", "categorical", rooms)]
    factors = [*states, Factor("action", "ACTION", "categorical", 2)]
    env = GymEnv("Named-v0", 20, 3, factors)
    assert env.observe()["room"].tolist() == [2] * 20 and env.observe()["place"].shape == (20, 2)
    starts = env.observe()["place"][:, 0]
    model = build(ModelConfig(context=4, n_layer=1, n_embd=16, n_head=2, n_ff=16), factors).eval()
    model.forward = lambda values, see, only: {"action": torch.tensor([[[-1e4, 1e4]]]).repeat(len(see), 1, 1)}
    rewards = evaluate.rollout(model, env, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(rewards.sum(axis=1), starts)
    factors[1] = Factor("room", "STATE", "categorical", 4)
    with pytest.raises(ValueError, match="categorical 4"):
        GymEnv("Named-v0", 2, 3, factors)


def test_a_model_without_returns_cannot_be_given_a_target():
    model = Constant(1.0, FACTORS[:2])
    with pytest.raises(ValueError, match="bc_states"):
        evaluate.rollout(model, GymEnv("Countdown-v0", 2, 3, model.factors), "rc", targets=np.ones(2))


@pytest.mark.parametrize(
    "env_id, words",
    [("Nothing-v0", "Nothing"), ("no_package:Thing-v0", "no_package"), ("Endless-v0", "time limit"),
     ("CartPole-v1", "continuous 4"), ("FrozenLake-v1", "categorical 16"), ("Tuple-v0", "Tuple")],
)  # fmt: skip
def test_an_environment_that_does_not_fit_is_refused(env_id, words):
    with pytest.raises(ValueError, match=words) as error:
        GymEnv(env_id, 2, 0, FACTORS)
    assert "\n" not in str(error.value)


def collected(env_id, episodes, policy):
    """Episodes of an environment as D4RL would store them."""
    env, rng = gymnasium.make(env_id), np.random.default_rng(0)
    made = {name: [] for name in ("observations", "actions", "rewards", "terminals", "timeouts")}
    for episode in range(episodes):
        seen, over = env.reset(seed=episode)[0], False
        while not over:
            action = policy(seen, rng)
            after, reward, terminated, truncated, _ = env.step(action)
            for row, value in zip(made.values(), (seen, action, reward, terminated, truncated)):
                row.append(value)
            seen, over = after, terminated or truncated
    return {name: np.array(rows) for name, rows in made.items()}


WORLDS = {
    "CartPole-v1": (20, lambda seen, rng: int(seen[2] + seen[3] / 2 + rng.normal() / 2 > 0)),
    "Pendulum-v1": (3, lambda seen, rng: rng.uniform(-2, 2, 1).astype(np.float32)),
}


@pytest.mark.parametrize("env_id", WORLDS)
def test_imported_data_train_and_play_through_the_real_commands(env_id, run_warm, refused, tmp_path):
    write_hdf5(tmp_path / "some.hdf5", collected(env_id, *WORLDS[env_id]))
    process = run_warm("data.py", "import", "some.hdf5", "--min_length=10", "--out=new/some.npz", cwd=tmp_path)
    assert process.returncode == 0 and not process.stderr, process.stderr
    returns = Trajectories.load(tmp_path / "new" / "some.npz").values["return_to_go"][:, 0, 0]
    assert f"{returns.mean():.4g} on average, from {returns.min():.4g} to {returns.max():.4g}" in process.stdout
    config = os.path.join(os.path.dirname(data.__file__), "config", "d4rl_hopper.py")
    tiny = "--n_embd=16 --n_layer=1 --n_head=2 --n_ff=16 --context=5 --batch_size=20 --max_iters=40 --eval_sequences=50"
    process = run_warm("train.py", config, *tiny.split(), "--dataset=new/some.npz", "--out_dir=out", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    line = ("evaluate.py", "--out_dir=out", "--sequences=50", "--modes=bc,rc", "--rollouts=4")
    process = run_warm(*line, f"--env={env_id}", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    losses = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert np.isfinite([row["loss"] for row in losses.values()]).all() and "behavior_cloning" in losses
    played = json.loads((tmp_path / "out" / "rollouts.json").read_text())
    for mode in ("bc", "rc"):
        length, total = played[mode]["length"]["mean"], played[mode]["return"]["mean"]
        assert (
            (total == length and 8 <= length <= 500)
            if env_id == "CartPole-v1"
            else (length == 200 and -2000 < total < 0)
        )
    assert "--env" in refused(run_warm(*line, cwd=tmp_path))
    other = next(name for name in WORLDS if name != env_id)
    assert other in refused(run_warm(*line, f"--env={other}", cwd=tmp_path))
