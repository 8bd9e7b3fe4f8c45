"""Let the maze's demonstrator play the models' episodes: what their returns are compared with.

    python repro/demonstrator.py --study=maze2d_medium --seeds=0,1,2

Adds a line for each seed to the results: mean returns with the noise of the data and without it,
and the mean initial distance, which bounds any return. Read next: rollouts.py, for pictures.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import numpy as np

import maze2d
import rollout
import run

# ---- settings ------------------------------------------------------------------------------------
study = "maze2d_medium"  # a results file of Maze2D; its name has the maze's
results = "repro/results"  # the folder of the results files
seeds = "0"  # of the runs whose episodes are played, e.g. "0,1,2"
episodes = 1000
# --------------------------------------------------------------------------------------------------


def demonstrate(env, maze, noise, seed=0):
    """Play the episodes in which env stands: positions (n, steps, 2) and rewards (n, steps)."""
    generator = np.random.default_rng(seed)
    driver = maze2d.Demonstrator(maze, generator)
    driver.plan(env.qpos, env.goal)
    positions, rewards = [], []
    for _ in range(env.horizon):
        positions.append(env.qpos)
        action = driver.act(env.qpos, env.qvel) + noise * generator.standard_normal((env.n, 2))
        rewards.append(env.step(action))
    return np.stack(positions, axis=1), np.stack(rewards, axis=1)


def main():
    maze, path = study.split("_")[1], Path(results, f"{study}.jsonl")
    settings = {} if episodes == 1000 else {"episodes": episodes}
    lines = [line for line in run.read_results(path) if line["row"] == "demonstrator"]
    there = {line["seed"] for line in lines if line["settings"] == settings}
    for seed in sorted({int(word) for word in seeds.split(",")} - there):
        found = {}
        for name, noise in (("demonstrator", maze2d.NOISE), ("noise_free", 0.0)):
            env = maze2d.Maze2D(maze, episodes, rollout.ROLLOUT_SEED + seed)
            found["initial_distance"] = np.linalg.norm(env.qpos - env.goal, axis=1).mean()
            found[name] = demonstrate(env, maze, noise, seed)[1].sum(axis=1).mean()
        found = {name: round(float(x), 6) for name, x in found.items()}
        command = f"python repro/demonstrator.py --study={study} --seeds={seed}"
        line = {"row": "demonstrator", "seed": seed, "command": command}
        run.append(path, line | {"settings": settings, "results": found})
        print(f"{path}: the demonstrator, seed {seed}: {found}")


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
