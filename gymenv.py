"""Any Gymnasium environment as a world to play in: n copies in lockstep, for models trained on imported data.

    python evaluate.py --out_dir=out/hopper --env=Hopper-v5 --rollouts=100 --modes=bc,rc

The interface is that of doorkey.DoorKey and maze2d.Maze2D. Environments of other packages are named module:ID.
Read next: evaluate.rollout, which lets a model play; importing.py, where the data come from.
"""

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete


class GymEnv:
    """n episodes of a Gymnasium environment, each until it ends or the environment's time limit cuts it off.

    An episode that is over earns nothing any more, whatever its copy goes on to do. The same seed gives the same
    episodes. Continuous actions are clipped to the bounds of the action space.
    factors: the model's; the observations must be its states ("observation", or a dictionary's keys), its action the
    environment's. Raises ValueError if they are not, if there is no such environment, or none with a time limit.
    horizon: the time limit in steps; over: (n,) bool; action_bounds: two (k,) tensors, if actions are continuous.
    """

    def __init__(self, env_id, n, seed, factors):
        if n < 1:
            raise ValueError(f"n={n} episodes: a batch needs at least 1")
        self.n, self.factors, self._seed = n, factors, seed
        try:
            self._envs = gymnasium.make_vec(str(env_id), num_envs=n, vectorization_mode="sync")
        except (gymnasium.error.Error, ImportError) as error:
            raise ValueError(f"there is no environment {env_id!r} to play in: {error}") from None
        self._check(env_id)
        action = self._envs.single_action_space
        if isinstance(action, Box):
            self.action_bounds = torch.as_tensor(action.low), torch.as_tensor(action.high)
        self.reset()

    def _check(self, env_id):
        """Raise ValueError unless the environment has a time limit and its spaces are the model's factors."""
        self.horizon = self._envs.envs[0].spec.max_episode_steps
        if not self.horizon:
            raise ValueError(f"{env_id} has no time limit (max_episode_steps), so its episodes may never end")
        space = self._envs.single_observation_space
        theirs = dict(space) if isinstance(space, Dict) else {"observation": space}
        theirs = theirs | {"action": self._envs.single_action_space}
        theirs = {name: _kind(part) for name, part in theirs.items()}
        ours = {f.name: (f.kind, f.size) for f in self.factors if f.group != "RETURN"}
        if ours.keys() != theirs.keys() or not all(_fits(ours[name], theirs[name]) for name in ours):
            show = lambda spaces: ", ".join(f"{name} ({kind} {size})" for name, (kind, size) in spaces.items())
            raise ValueError(f"{env_id} has {show(theirs)}; the model was trained on {show(ours)}")

    def reset(self):
        """Start the n episodes of the seed (always the same ones). Returns observe()."""
        self._observation, _ = self._envs.reset(seed=self._seed)
        self.over = np.zeros(self.n, dtype=bool)
        self.length = np.zeros(self.n, dtype=np.int64)
        return self.observe()

    def step(self, actions):
        """actions: (n,) classes or (n, k) numbers. Returns observe() and the rewards (n,), 0 where an episode was over."""
        if isinstance(self._envs.single_action_space, Box):
            actions = np.clip(actions, *(bound.numpy() for bound in self.action_bounds))
        self._observation, rewards, terminated, truncated, _ = self._envs.step(actions)  # restarts those that are over
        rewards = np.where(self.over, 0.0, rewards)
        self.length += ~self.over
        self.over |= terminated | truncated
        return self.observe(), rewards

    def observe(self):
        """{state factor: (n,) classes or (n, k) float32}. Of an episode that is over, it means nothing."""
        parts = self._observation if isinstance(self._observation, dict) else {"observation": self._observation}
        kinds = {f.name: np.int64 if f.kind == "categorical" else np.float32 for f in self.factors}
        return {name: part.astype(kinds[name]) for name, part in parts.items()}

    def report(self):
        """What the episodes came to, besides their return: {"length": (n,) steps until they were over}."""
        return {"length": self.length}

    def encode_return(self, return_to_go, t):
        """(n, 2) values of the factor return_to_go at timestep t, as importing.returns_to_go() has them."""
        if not any((f.group, f.kind, f.size) == ("RETURN", "continuous", 2) for f in self.factors):
            raise ValueError("the model knows no return_to_go as data.py import makes it: play modes bc and bc_states")
        return np.stack([return_to_go, np.full(self.n, t)], axis=1).astype(np.float32)

    def start_features(self):
        """(n, features) the present as a start, to find training episodes like it: states in standard deviations."""
        return self._features(self.observe())

    def dataset_features(self, trajectories):
        """(N, features) the same of the starts of a data set."""
        return self._features({name: array[:, 0] for name, array in trajectories.values.items()})

    def dataset_returns(self, trajectories):
        """(N,) returns of the episodes of a data set."""
        return trajectories.values["return_to_go"][:, 0, 0].astype(np.float64)

    def _features(self, values):
        states = [f for f in self.factors if f.group == "STATE"]
        columns = [values[f.name] / np.array(f.std or 1.0) for f in states]  # (rows,) or (rows, k)
        return np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)


def _kind(space):
    """The kind and size of the factor that a space's values make."""
    if isinstance(space, Box) and len(space.shape) == 1:
        return "continuous", space.shape[0]
    if isinstance(space, Discrete) and space.start == 0:
        return "categorical", int(space.n)
    return str(space), 0


def _fits(ours, theirs):
    """Classes that the data happen to lack do no harm: the model never chooses them, and sees them as no class."""
    return ours == theirs or (ours[0] == theirs[0] == "categorical" and ours[1] < theirs[1])
