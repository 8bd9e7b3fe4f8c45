"""16 rollouts in the maze: a model's path and the demonstrator's from the same start; the lower half are its worst.

    python repro/rollouts.py --out_dir=out/runs/maze2d_medium/unimask_bc_T5_s0 --picture=assets/maze2d_rollouts.png

The upper eight episodes are the first of those that are reported for seed 0, the lower eight are the ones, of all of
them, in which the model falls furthest behind the demonstrator. Read next: table.py, for the means.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator
import data
import evaluate
import maze2d
import pictures
from model import load

# settings
out_dir = "out/maze2d_bc"  # a folder that train.py made
mode = "bc_states"  # how to play: evaluate.ROLLOUT_MODES
episodes = 1000
noise = 0.5  # of the demonstrator's actions
picture = "assets/maze2d_rollouts.png"
threads = 1


def record(env):
    """Make env.step() keep the positions that it leads to; returns the list of them, (n, 2) each, the start first."""
    positions, step = [env.qpos], env.step

    def keeping(actions):
        result = step(actions)
        positions.append(env.qpos)
        return result

    env.step = keeping
    return positions


def demonstrate(env, maze, noise):
    """Let the demonstrator play the episodes in which env stands; returns its rewards (n, horizon)."""
    generator = np.random.default_rng(0)
    demonstrator = maze2d.Demonstrator(maze, generator)
    demonstrator.plan(env.qpos, env.goal)
    rewards = np.zeros((env.n, env.horizon))
    for t in range(env.horizon):
        action = demonstrator.act(env.qpos, env.qvel) + noise * generator.standard_normal((env.n, 2))
        rewards[:, t] = env.step(action)[1]
    return rewards


def choose(ours, theirs):
    """The episodes to draw: the first eight, then the eight in which `ours` (n,) falls furthest behind `theirs` (n,)."""
    worst = np.argsort(ours - theirs, kind="stable")
    return np.concatenate([np.arange(8), worst[:8]])


def draw(path, maze, chosen, goals, paths, returns):
    """paths, returns: {who: (n, steps, 2) metres}, {who: (n,)}; the first is drawn solid, the second dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 11.6), layout="constrained")
    axes = figure.subplots(4, 4).flat
    for ax, episode in zip(axes, chosen):
        pictures.draw_walls(ax, maze)
        for (who, track), style, color in zip(paths.items(), ("-", "--"), ("black", "0.35")):
            ax.plot(*track[episode].T, style, linewidth=1.3, color=color, label=who)
        ax.plot(*paths["model"][episode, 0], "o", markersize=5, markerfacecolor="white", markeredgecolor="black")
        ax.plot(*goals[episode], "*", markersize=10, color="black", markeredgecolor="white")
        title = ", ".join(f"{who} {total[episode]:.2f}" for who, total in returns.items())
        ax.set_title(f"return: {title}", fontsize=8)
        ax.set_axis_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    half = "above: the first episodes; below: those in which the model falls furthest behind"
    figure.suptitle(f"maze2d-{maze}, {half} (circle: start, star: goal)", fontsize=10)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with configurator.beside(path) as unfinished:
        figure.savefig(unfinished, dpi=100, format="png")


def main():
    config = configurator.apply(globals())
    torch.set_num_threads(max(1, config["threads"]))
    network, trained = load(config["out_dir"]), evaluate.read_config(config["out_dir"])
    if not trained["dataset"].startswith("maze2d-"):
        raise ValueError(f"{config['out_dir']} was trained on {trained['dataset']}, which is no maze")
    if config["episodes"] < 16:
        raise ValueError(f"episodes={config['episodes']} must be at least 16, of which to choose")
    maze = trained["dataset"].removeprefix("maze2d-")
    train, _ = data.train_and_validation(trained["dataset"], trained["num_trajectories"], trained["data_seed"])
    paths, returns = {}, {}
    for who in ("model", "demonstrator"):
        env = data.environment(trained["dataset"], config["episodes"], evaluate.ROLLOUT_SEED)
        positions = record(env)
        if who == "model":
            rewards = evaluate.rollout(network, env, config["mode"], evaluate.target_returns(env, train))
        else:
            rewards = demonstrate(env, maze, config["noise"])
        paths[who], returns[who] = np.stack(positions, axis=1), rewards.sum(axis=1)
        print(f"{who}: mean return {returns[who].mean():.3f}")
    draw(config["picture"], maze, choose(*returns.values()), env.goal, paths, returns)
    print(f"drawn to {config['picture']}")


if __name__ == "__main__":
    main()
