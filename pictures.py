"""Pictures of answers: what sample.py found out, over DoorKey's grid or Maze2D's walls, as a .png or an animated .gif.

DoorKey: a column per timestep; grids with the probability of the agent's and the key's cell in grey, and an arrow per
action, as long and as thick as it is probable. Maze2D: the fan of sampled paths over the whole maze, and close up.
Everything is told by shade, shape and line style, so that a print in grey says as much. Read next: plot.py.
"""

import math
import os

import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter

import doorkey
import plot
from plot import plt

FRAMES = 40  # of an animation, at most
FAN = 200  # paths drawn, at most


def draw(path, world, query, answers, samples=None, known=None, truth=None):
    """Draw what was answered to a query (its row 0) to `path`.

    answers: {label: marginals}; samples: {factor: (n, steps) or (n, steps, k)} or None; known: {factor: (steps,) bool},
    which of the samples' entries were seen or filled in; truth: the trajectory that the query is about, or None.
    Prints a line instead where there is no picture.
    """
    check_path(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if world.startswith("doorkey"):
        draw_doorkey(path, query, answers, samples, known, truth)
    elif world.startswith("maze2d-") and (samples is not None or "position" in answers["model"]):
        draw_maze2d(path, world.removeprefix("maze2d-"), query, answers, samples, known, truth)
    else:
        print(f"no picture: there is none of such an answer in the world {world!r}")


def check_path(path):
    """Raise ValueError for a file that cannot become a picture."""
    if not path.endswith((".png", ".gif")):
        raise ValueError(f"picture={path!r} must end in .png, or in .gif for an animation")


# ---------------------------------------------------------------------------------------------------------------------
# DoorKey


def draw_doorkey(path, query, answers, samples, known, truth):
    """Rows for agent, key and action of each answer and of the samples' frequencies; a column per timestep."""
    see = {name: mask[0].numpy() for name, mask in query.see.items()}
    sources = {who: {name: p[0].numpy() for name, p in answer.items()} for who, answer in answers.items()}
    sizes = {name: p.shape[-1] for name, p in next(iter(sources.values())).items()}
    if samples is not None:
        sources["samples"] = frequencies(samples, known, sizes)
    rows = [(who, name, p) for who, source in sources.items() for name, p in source.items()]
    T, size = len(see["action"]), math.isqrt(sizes.get("agent_pos", 16)) + 2

    def draw_column(axes, t):
        for ax, (_, name, p) in zip(axes, rows):
            ax.clear()
            seen = int(query.values[name][0, t]) if see[name][t] else None
            probability = np.zeros(sizes[name]) if seen is not None or t >= len(p) else p[t]
            if name == "action":
                draw_arrows(ax, probability, seen)
            else:
                plot.draw_grid(ax, size, probability, seen)
                if truth is not None and seen is None:
                    cell = doorkey.cell_xy(int(truth[name][0, t]), size)
                    ax.plot(*cell, "x", color="white", markersize=6, markeredgewidth=2.4)
                    ax.plot(*cell, "x", color="black", markersize=5, markeredgewidth=1)

    notes = ["darker: more probable (white 0, black 1)", "white dot or solid arrow: seen", "D door, G goal"]
    notes += ["cross: where it really was"] if truth is not None else []
    labels = [f"{name.removesuffix('_pos')}, {who}" for who, name, _ in rows]
    if path.endswith(".gif"):
        return animate_doorkey(path, draw_column, T, labels, len(sources), "\n".join(notes))
    figsize = (1.15 * T + 0.6, 1.2 * len(rows) + 0.4)
    figure, axes = plt.subplots(len(rows), T, squeeze=False, figsize=figsize, constrained_layout=True)
    for t in range(T):
        draw_column(axes[:, t], t)
        axes[0, t].set_title(f"t={t}", fontsize=9)
    for ax, label in zip(axes[:, 0], labels):
        ax.set_ylabel(label.replace(", ", "\n"), fontsize=9)
    figure.suptitle("; ".join(notes), fontsize=8)
    plot.save(figure, path)


def animate_doorkey(path, draw_column, T, labels, lines, notes):
    """A frame per timestep, with a line of pictures for each source of answers."""
    figsize = (6, 2.2 * lines + 0.8)
    figure, axes = plt.subplots(lines, len(labels) // lines, squeeze=False, figsize=figsize, constrained_layout=True)

    def frame(t):
        draw_column(axes.flat, t)
        for ax, label in zip(axes.flat, labels):
            ax.set_title(label, fontsize=9)
        figure.suptitle(f"t={t}", fontsize=11)

    figure.supxlabel(notes, fontsize=7)
    animate(figure, frame, range(T), path, frames_per_second=1.5)


def frequencies(samples, known, sizes):
    """{factor: (steps, classes) shares of the samples}; all 0 for entries that were neither seen nor filled in."""
    one_hot = lambda name: torch.nn.functional.one_hot(
        samples[name].long(), sizes[name]
    ).double()  # (n, steps, classes)
    return {name: (one_hot(name).mean(dim=0) * known[name][:, None]).numpy() for name in sizes}


def draw_arrows(ax, probability, seen=None):
    """Four arrows from the middle, as long and thick as their action is probable; one solid arrow if it is seen."""
    shares = np.eye(4)[seen] if seen is not None else probability
    for (x, y), share in zip(doorkey.MOVES, shares):
        if share > 0.01:
            shade = "black" if seen is not None else str(round(0.6 * (1 - share), 3))
            ax.arrow(
                0,
                0,
                0.15 * x + 0.6 * share * x,
                0.15 * y + 0.6 * share * y,
                width=0.02 + 0.16 * share,
                color=shade,
                head_width=0.14 + 0.3 * share,
                head_length=0.2,
                length_includes_head=False,
                linewidth=0,
            )
    for (x, y), share in zip(doorkey.MOVES, probability):
        if share >= 0.05:
            ax.text(
                x * 0.95 + 0.55 * abs(y), y * 1.0 + 0.42 * abs(x), f"{share:.2f}", fontsize=6, ha="center", va="center"
            )
    ax.set_xlim(-1.25, 1.25)
    ax.set_ylim(1.25, -1.25)  # y points down, as in MiniGrid
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])


# ---------------------------------------------------------------------------------------------------------------------
# Maze2D


def draw_maze2d(path, maze, query, answers, samples, known, truth):
    """Sampled paths over the whole maze, and close up beside it; seen places as dots, the goal as a star."""
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 5.2), constrained_layout=True)
    fan = (
        samples["position"][:FAN].numpy() if samples is not None else answers["model"]["position"].numpy()
    )  # (n, steps, 2)
    if samples is not None:
        fan = np.where(known["position"][:, None], fan, np.nan)  # what was neither seen nor filled in is not drawn
    label = f"{len(fan)} sampled paths" if samples is not None else "mean of each place, by itself"
    seen = query.values["position"][0][query.see["position"][0]].numpy()
    faint, lines = max(0.15, min(1, 10 / len(fan))), []
    for ax in axes:
        draw_walls(ax, maze)
        lines.append(ax.plot(*fan.transpose(2, 1, 0), "-", color="0.25", linewidth=0.9, alpha=faint))
        lines[-1][0].set_label(label)
        if truth is not None:
            ax.plot(*truth["position"][0].numpy().T, "--", color="black", linewidth=1.6, label="what really happened")
        ax.plot(*seen.T, "o", color="white", markeredgecolor="black", markersize=5, zorder=4, label="seen places")
        draw_goal(ax, query, samples)
    zoom(
        axes[1], np.concatenate([fan.reshape(-1, 2), seen] + ([] if truth is None else [truth["position"][0].numpy()]))
    )
    axes[0].set_title(f"the maze {maze!r}, {fan.shape[1]} steps of 0.01 s", fontsize=10)
    axes[1].set_title("close up", fontsize=10)
    for handle in axes[0].legend(fontsize=7, loc="upper right", framealpha=1).legend_handles:
        handle.set_alpha(1)  # a single line of the fan is too faint to be a key to it
    if path.endswith(".png"):
        return plot.save(figure, path)

    def show_until(t):
        for drawn in lines:
            for line, one in zip(drawn, fan):
                line.set_data(*one[: t + 1].T)

    steps = np.unique(np.linspace(0, fan.shape[1] - 1, FRAMES).astype(int))
    animate(figure, show_until, steps, path, frames_per_second=10)


def draw_walls(ax, maze):
    """Draw a maze's walls into matplotlib axes, in the coordinates of positions (metres)."""
    import maze2d

    walls, edge = maze2d.layout(maze), 0.5 + maze2d.CELL_OFFSET
    for corner in np.argwhere(walls) - edge:
        ax.add_patch(plt.Rectangle(corner, 1, 1, facecolor="0.55", edgecolor="0.55", linewidth=0.5))
    ax.set_xlim(-edge, walls.shape[0] - edge)
    ax.set_ylim(-edge, walls.shape[1] - edge)
    ax.set_aspect("equal")
    ax.set_xlabel("x [m]")
    ax.set_ylabel("y [m]")


def draw_paths(ax, positions, goals=None, color="black", label=None):
    """Draw paths (n, L, 2), or one (L, 2), and their goals (n, 2), in metres, into matplotlib axes.

    Each begins at a white dot and should end at its star; line styles alternate, so that colour is never needed.
    label: for the legend, once for all paths.
    """
    positions = np.asarray(positions)
    positions = positions[None] if positions.ndim == 2 else positions
    for i, path in enumerate(positions):
        style = ("-", "--", ":", "-.")[i % 4]
        ax.plot(*path.T, linestyle=style, linewidth=1.2, color=color, label=label if i == 0 else None)
    ax.plot(*positions[:, 0].T, "o", markersize=5, markerfacecolor="white", markeredgecolor=color, zorder=3)
    if goals is not None:
        ax.plot(*np.reshape(goals, (-1, 2)).T, "*", markersize=10, color=color, markeredgecolor="white", zorder=3)


def zoom(ax, places):
    """Look close at places (n, 2), some of which may be NaN."""
    places = places[~np.isnan(places).any(axis=1)]
    if len(places):
        low, high = places.min(axis=0), places.max(axis=0)
        (x, y), half = (low + high) / 2, max(0.15, 0.6 * (high - low).max())
        ax.set_xlim(x - half, x + half)
        ax.set_ylim(y - half, y + half)


def draw_goal(ax, query, samples):
    """A star at the goal if it is seen, otherwise a small cross at each sampled one."""
    shown = query.see["goal"][0]
    if shown.any():
        goal = query.values["goal"][0][shown][-1].numpy()
        ax.plot(*goal, "*", color="black", markeredgecolor="white", markersize=13, zorder=4, label="goal, seen")
    elif samples is not None and query.predict["goal"][0].any():
        last = query.predict["goal"][0].nonzero()[-1, 0]
        ax.plot(*samples["goal"][:FAN, last].numpy().T, "+", color="black", markersize=6, label="goals, sampled")


def animate(figure, update, steps, path, frames_per_second):
    """Write an animated .gif beside its place and rename it."""
    unfinished = path.removesuffix(".gif") + ".tmp.gif"
    animation = FuncAnimation(figure, update, frames=steps)
    animation.save(unfinished, writer=PillowWriter(fps=frames_per_second), dpi=90)
    os.replace(unfinished, path)
    plt.close(figure)
    print(f"wrote {path}")
