"""Episodes as a moving picture: a model plays a few, side by side, each with its return so far.

    python film.py --out_dir=out/minigrid_dream --mode=best
    python film.py --out_dir=out/locomotion --env=Hopper-v5 --mode=rc --out=out/hopper.gif

It draws DoorKey, Maze2D, and any Gymnasium environment that renders. Actions are the most probable
ones, but for mode plan, which draws. Before this: rollout.py, which has the modes, and plot.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import matplotlib.pyplot as plt
import numpy as np

import checkpoint
import files
import plot
import rollout
import worlds

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/run"  # a folder that train.py made
mode = "bc"  # what is asked for: one of the modes of rollout.py
target_return = "x1.2"  # to ask for in the modes rc and rc_all, as in rollout.py
env = None  # a Gymnasium environment to play in, e.g. "Hopper-v5"; None: the data's own world
episodes = 4  # side by side
out = "out/episodes.gif"  # the picture to write
# --------------------------------------------------------------------------------------------------

FRAMES, SECONDS = 41, 5  # of the picture, at most
GOLD = plot.SEEN | {"color": "#e69f00", "markeredgecolor": "#e69f00"}


def record(network, stage, game):
    """Play, and keep what is to be seen before the first step and after each: (film, rewards).

    film: a list of stage.observe(), {factor: (n,) or (n, k)}, or of n pictures; rewards: (n, steps).
    """
    look, step = stage.render if env else stage.observe, stage.step
    film = [look()]

    def watched(actions):
        rewards = step(actions)
        film.append(look())
        return rewards

    stage.step = watched
    return film, rollout.play(network, stage, **game)[1]


def animate(stage, film, rewards, draw):
    """Write the picture. draw(axes, film, i, stage) draws the last moment of episode i of a film."""
    earned = np.pad(rewards.cumsum(axis=1), ((0, 0), (1, 0)))  # (n, steps + 1)
    ends = stage.report().get("length", [len(film)] * stage.n)  # what follows is another episode
    fig, axes = plt.subplots(1, stage.n, figsize=(1.8 * stage.n, 2.2), squeeze=False)

    def draw_frame(t):
        for i, ax in enumerate(axes[0]):
            so_far = film[: min(t, ends[i]) + 1]
            ax.clear()
            draw(ax, so_far, i, stage)
            ax.set_axis_off()
            ax.set_title(f"earned {earned[i, len(so_far) - 1]:.3g}".replace("-", "−"))

    steps = np.unique(np.linspace(0, len(film) - 1, FRAMES).astype(int))
    plot.animate(fig, draw_frame, steps, out, SECONDS / len(steps))


def draw_picture(ax, film, i, stage):
    ax.imshow(film[-1][i])


def draw_doorkey(ax, film, i, stage):
    nothing, now = np.zeros(len(stage.table.index)), film[-1]  # (cells,)
    plot.draw_grid(ax, nothing, cell=now["agent_pos"][i], scale=2.2)
    plot.draw_grid(ax, nothing, cell=now["key_pos"][i], mark=GOLD | {"marker": "D"})


def draw_maze2d(ax, film, i, stage):
    plot.draw_walls(ax, stage.maze)
    ax.plot(*film[-1]["goal"][i], **GOLD | {"marker": "*", "markersize": 13})
    ax.plot(*np.transpose([now["position"][i] for now in film]), color=plot.TEAL)
    ax.plot(*film[-1]["position"][i], **plot.SEEN)


DRAWN = {"doorkey": draw_doorkey, "maze2d-": draw_maze2d}  # by how a world's name begins


def main():
    configurator.check(globals(), {"episodes": (1, 100), "mode": rollout.MODES})
    target, *others = rollout.parse_targets(target_return)
    if others:
        raise ValueError(f"a film has one target_return, not {target_return!r}")
    files.check_writable(out, ".gif")
    network, trained = checkpoint.open_run(out_dir)
    source = worlds.source_of(trained)
    train, tests = worlds.train_and_validation(*source)[0], worlds.evaluation_set(*source, "test")
    world = train.world or source[0]  # a file may be of a world, too
    found = [draw for begin, draw in DRAWN.items() if world.startswith(begin)]
    if not env and not found:
        raise ValueError(f"there are no pictures of {world}: DRAWN lacks a function that draws it")
    game = world, train, episodes, rollout.ROLLOUT_SEED, mode, target, env, False, tests
    stage, game = rollout.begin(network, *game, render=bool(env))
    animate(stage, *record(network, stage, game), draw_picture if env else found[0])


if __name__ == "__main__":
    configurator.apply(globals())
    main()
