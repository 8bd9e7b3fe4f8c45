"""16 rollouts in the maze: a model's path and the demonstrator's, from the same start.

    python repro/rollouts.py --out_dir=out/runs/maze2d_medium/unimask_bc_T5_s0

The upper eight are the first of the episodes that are reported for seed 0. The lower eight are
those, of all of them, in which the model falls furthest behind the demonstrator.
"""

import sys
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import numpy as np
import torch

import checkpoint
import files
import maze2d
import plot
import rollout
import worlds
from demonstrator import demonstrate

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/maze2d_bc"  # a folder that train.py made
mode = "bc_states"  # how to play: rollout.MODES
episodes = 1000  # of which to choose
picture = "assets/maze2d_rollouts.png"
threads = 1
# --------------------------------------------------------------------------------------------------

COLORS = {"model": colormaps["viridis"](0.0), "demonstrator": colormaps["viridis"](0.65)}


def choose(ours, theirs):
    """The first eight episodes, then the eight in which ours (n,) is furthest behind theirs."""
    return np.concatenate([np.arange(8), np.argsort(ours - theirs, kind="stable")[:8]])


def draw(path, maze, chosen, goals, paths, returns):
    """goals: (n, 2); paths: {who: (n, steps, 2) metres}; returns: {who: (n,)}."""
    figure = Figure(figsize=(11, 11.6), layout="constrained")
    axes = figure.subplots(4, 4).flat
    for ax, episode in zip(axes, chosen):
        plot.draw_walls(ax, maze)
        for (who, track), style in zip(paths.items(), ("-", "--")):
            ax.plot(*track[episode].T, style, linewidth=1.8, color=COLORS[who], label=who)
        ax.plot(
            *paths["model"][episode, 0], "o", markersize=6, color="white", markeredgecolor="black"
        )
        ax.plot(*goals[episode], "*", markersize=12, color="gold", markeredgecolor="black")
        ours, theirs = (returns[who][episode] for who in ("model", "demonstrator"))
        ax.set_title(f"return {ours:.2f}, demonstrator {theirs:.2f}", fontsize=8)
        ax.set_axis_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    half = "above: the first episodes; below: those in which the model falls furthest behind"
    figure.suptitle(f"maze2d-{maze}, {half} (circle: start, star: goal)", fontsize=10)
    with files.whole(path) as unfinished:
        figure.savefig(unfinished, dpi=100, format="png")


def main():
    configurator.check(globals(), {"episodes": (16, 1_000_000), "mode": rollout.MODES})
    torch.set_num_threads(threads)
    network, trained = checkpoint.load(out_dir), checkpoint.settings(out_dir)
    dataset = trained["dataset"]
    if not dataset.startswith("maze2d-"):
        raise ValueError(f"{out_dir} was trained on {dataset}, which is no maze")
    maze, rewards = dataset.removeprefix("maze2d-").removesuffix("-raw"), {}
    train, _ = worlds.train_and_validation(
        dataset, trained["num_trajectories"], trained["data_seed"]
    )
    env = worlds.environment(dataset, episodes, rollout.ROLLOUT_SEED)
    values, rewards["model"] = rollout.play(network, env, mode, rollout.target_returns(env, train))
    env = worlds.environment(dataset, episodes, rollout.ROLLOUT_SEED)
    positions, rewards["demonstrator"] = demonstrate(env, maze, maze2d.NOISE)
    returns = {who: x.sum(axis=1) for who, x in rewards.items()}
    paths = {"model": values["position"].numpy(), "demonstrator": positions}
    draw(picture, maze, choose(*returns.values()), env.goal, paths, returns)
    means = ", ".join(f"{who} {x.mean():.3f}" for who, x in returns.items())
    print(f"mean return: {means}; drawn to {picture}")


if __name__ == "__main__":
    configurator.apply(globals())
    main()
