"""Figures: training curves, the exact posterior beside a model's, and the answers of sample.py.

    python plot.py --figure=curves --out_dir=out/minigrid_random     # A,B compares several runs
    python plot.py --figure=posterior --out_dir=out/minigrid_infinite

Probability is colour, from light to dark along one perceptually uniform map, so that a print in
grey says as much. A new world is drawn by one function here, and a line in answer();
for films by one in film.py, and a line in DRAWN. Before this: sample.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import csv
import math
import os

import matplotlib

matplotlib.use("Agg")  # figures go to files: no display is needed
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from PIL import Image

import bayes
import checkpoint
import data
import doorkey
import evaluate
import files
import masks
import maze2d
import traits
import worlds

# ---- settings ------------------------------------------------------------------------------------
figure = "curves"  # "curves": losses against steps; "posterior": exact and a model's (DoorKey)
out_dir = "out/run"  # a run, or several, A,B; the figure goes into the first
trajectory = 5  # of the posterior: which test trajectory
task = "span(3,8)"  # of the posterior: what is hidden of it
# --------------------------------------------------------------------------------------------------

COLORS = matplotlib.colormaps["viridis"]  # of runs
PLASMA, MAGMA = matplotlib.colormaps["plasma"], matplotlib.colormaps["magma_r"]
TIME = ListedColormap(PLASMA(np.linspace(0, 0.88, 256)))  # without the yellow, too light on white
SHADES = ["white", *MAGMA(np.linspace(0.12, 1, 12))]
PROBABILITY = LinearSegmentedColormap.from_list("probability", SHADES)  # white 0, black 1
GREY, TEAL = "0.45", "#00a896"
SEEN = {"marker": "o", "linestyle": "", "color": TEAL, "markeredgecolor": "white", "markersize": 7}
TRUTH = SEEN | {"marker": "X"}
FAN, FRAMES = 200, 40  # paths drawn, and pictures of an animation, at most

plt.rc("font", size=9)
plt.rc("axes", titlesize=10, titlelocation="left", edgecolor=GREY)
plt.rc("axes.spines", top=False, right=False)
plt.rc("xtick", color=GREY, labelsize=8)
plt.rc("ytick", color=GREY, labelsize=8)
plt.rc("legend", frameon=False)
plt.rc("figure.constrained_layout", use=True)


# --------------------------------------------------------------------------------------------------
# Training curves


def curves(folders):
    """A panel per task: validation loss against steps, with a dashed line at the exact limit."""
    logs = [read_log(folder) for folder in folders]
    skipped = ("iter", "lr", "train_loss")
    tasks = [name for name in logs[0][0] if name not in skipped and not name.endswith("_gap")]
    columns, lines = min(4, len(tasks)), math.ceil(len(tasks) / 4)
    size = (2.9 * columns, 2.2 * lines + 0.3)
    fig, axes = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for ax, name in zip(axes.flat, tasks):
        draw_curve(ax, name, folders, logs)
    for ax in list(axes.flat)[len(tasks) :]:
        ax.axis("off")
    fig.supxlabel("training step", fontsize=9)
    played = any(name.startswith("return_") and name not in masks.TASKS for name in tasks)
    fig.supylabel("validation loss" + ", and return of episodes" * played, fontsize=9)
    if len(folders) > 1:
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    save(fig, os.path.join(folders[0], "curves.png"))


def draw_curve(ax, name, folders, logs):
    """One column of the logs of some runs."""
    later = []  # all but the first evaluation, of an untrained model, which would squeeze the rest
    for number, (folder, log) in enumerate(zip(folders, logs)):
        rows = [row for row in log if row.get(name)]
        steps, values = [int(row["iter"]) for row in rows], [float(row[name]) for row in rows]
        color = COLORS(0.75 * number / max(1, len(folders) - 1))
        style = ("-", "--", "-.", ":")[number % 4]
        label = os.path.basename(os.path.normpath(folder))
        ax.plot(steps, values, style, color=color, linewidth=1.8, label=label)
        later += values[1:] or values
    last = logs[0][-1]
    if last.get(f"{name}_gap"):
        limit = float(last[name]) - float(last[f"{name}_gap"])
        ax.axhline(limit, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
        font = {"ha": "right", "va": "top", "color": GREY, "fontsize": 8}
        ax.text(1, limit, f"exact limit {limit:.2f}", transform=ax.get_yaxis_transform(), **font)
        later.append(limit)
    room = max(max(later) - min(later), 1e-3)
    ax.set_ylim(min(later) - 0.2 * room, max(later) + 0.25 * room)
    ax.set_title(name.replace("_", " "))
    ax.grid(axis="y", color="0.92")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 20k


def read_log(folder):
    """The rows of a run's log.csv as dictionaries of text. Raises ValueError if there are none."""
    path = os.path.join(folder, "log.csv")
    if not os.path.exists(path):
        raise ValueError(f"there is no {path}: train.py writes it")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        [float(text) for row in rows for text in row.values() if text]  # all are numbers
    except (csv.Error, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a log as train.py writes it: {error}") from None
    if not rows:
        raise ValueError(f"{path} has no evaluation yet")
    return rows


# --------------------------------------------------------------------------------------------------
# Answers


def answer(path, world, asked, answers, drawn=None, known=None, truth=None):
    """Draw what was answered to a query of sample.py (its row 0), as its world is drawn.

    answers: {label: {factor: (B, T, classes or k)}}; drawn: samples {factor: (n, steps) or
    (n, steps, k)} or None; known: {factor: (steps,) bool}, which of their entries were seen or
    filled in; truth: {factor: (1, T) or (1, T, k)}, what the query is about, or None.
    Prints a line instead where there is no picture.
    """
    if world in ("doorkey", "doorkey16"):
        sources = dict(answers)
        if drawn:
            sources["samples"] = shares(drawn, known, answers["model"])
        draw_doorkey(path, asked.values, asked.see, sources, truth)
    elif world.startswith("maze2d-") and (drawn or "position" in answers["model"]):
        draw_maze2d(path, world.removeprefix("maze2d-"), asked, answers, drawn, known, truth)
    else:
        print(f"no picture: there is none of such an answer in {world or 'a world without a name'}")


def posterior(folder):
    """A test trajectory, part of it hidden: where agent and key may be, exactly and by a model."""
    network, trained = checkpoint.open_run(folder)
    source = worlds.source_of(trained)
    tests = worlds.evaluation_set(*source, "test")
    if not tests.world.startswith("doorkey") or tests.valid().shape[1] != doorkey.LENGTH:
        raise ValueError(f"{source[0]} has no exact posterior: only DoorKey has, of ten timesteps")
    configurator.check(globals(), {"trajectory": (0, len(tests))})
    one = tests[[trajectory]]
    traits.check(network.config.model_type, task, doorkey.LENGTH)
    first = torch.zeros(1, dtype=torch.long)
    window = data.Windows(one, doorkey.LENGTH).at(first, first)  # {factor: (1, T)}
    see, _ = masks.draw(task, 1, doorkey.LENGTH, torch.Generator())
    see = masks.known_only(see, window, one.factors)
    exact, outputs = bayes.posterior(one, see), evaluate.answer(network, window, see)
    if any(f.group == "STATE" for f in network.predicted):
        del exact["action"]  # states only; of Decision-GPT there are but actions
    sources = {"exact": exact, "model": {name: y.softmax(dim=-1) for name, y in outputs.items()}}
    path, see = os.path.join(folder, "posterior.png"), masks.expand(see, one.factors)
    draw_doorkey(path, one.tensors(), see, sources, one.tensors())


# --------------------------------------------------------------------------------------------------
# DoorKey


def shares(drawn, known, like):
    """{factor: (1, steps, classes)}: how often each class was drawn, 0 for what was not."""
    found = {}
    for name, answer in like.items():
        hits = drawn[name][..., None] == torch.arange(answer.shape[-1])  # (n, steps, classes)
        found[name] = hits.double().mean(dim=0, keepdim=True) * known[name][:, None]
    return found


def draw_doorkey(path, values, see, sources, truth=None):
    """A row for each factor and source of answers, a column for each timestep; or an animation.

    values, see: {factor: (1, T)}; sources: {who: {factor: (1, steps, classes)}}; truth: as values.
    """
    drawable = ("agent_pos", "key_pos", "action")
    names = [name for name in drawable if all(name in source for source in sources.values())]
    panels = [(name, who) for name in names for who in sources]
    T, moving = see[names[0]].shape[1], path.endswith(".gif")
    columns = 1 if moving else T
    fig, ax = plt.subplots(figsize=(0.85 * columns + 1.6, 0.85 * len(panels) + 0.6))

    def draw_column(t, x=0.0):
        ax.text(x + 0.5, -0.06, f"t = {t}", ha="center")
        for i, (name, who) in enumerate(panels):
            y = 1.09 * i + 0.1 * (i // len(sources))  # a gap between factors
            if x == 0:
                text = f"{name.removesuffix('_pos')}\n{who}"
                ax.text(-0.06, y + 0.5, text, ha="right", va="center")
            shown, table = bool(see[name][0, t]), np.asarray(sources[who][name][0])
            nothing = shown or t >= len(table)  # what is seen has a mark instead
            table = np.zeros(table.shape[-1]) if nothing else table[t]
            known = shown or (truth and happened(truth, name, t))
            value = int((values if shown else truth)[name][0, t]) if known else None
            draw = draw_action if name == "action" else draw_grid
            draw(ax, table, (x, y), value, SEEN if shown else TRUTH)
        ax.set(xlim=(-0.02, 1.09 * columns), ylim=(y + 1.02, -0.02), aspect="equal")  # y: down

    def draw_frame(t):
        ax.clear()
        ax.set_axis_off()
        draw_column(t)

    key = {"shrink": 0.7, "aspect": 40, "pad": 0.01, "label": "probability"}
    fig.colorbar(ScalarMappable(cmap=PROBABILITY), ax=ax, **key).outline.set_edgecolor(GREY)
    handles = [Line2D([], [], **SEEN, label="seen")]
    handles += [Line2D([], [], **TRUTH, label="hidden: the truth")] if truth else []
    if names != ["action"]:
        handles.append(Line2D([], [], linestyle="", label="D: door, G: goal"))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    if moving:
        return animate(fig, draw_frame, range(T), path, seconds=0.7)
    ax.set_axis_off()
    for t in range(T):
        draw_column(t, 1.09 * t)
    save(fig, path)


def happened(truth, name, t):
    """Whether a factor is known to have a value at t, and no short trajectory has ended before."""
    known = truth.get(f"{name}/known")  # (1, steps)
    return t < truth[name].shape[1] and (known is None or bool(known[0, t]))


def draw_grid(ax, probability, corner=(0, 0), cell=None, mark=SEEN, scale=1):
    """DoorKey's interior as a unit square, with the probabilities of its cells (cells,).

    D is the door, G the goal. corner: the upper left one. cell: where to put a mark; scale: its
    size, of which 1 hides no cell beside it.
    """
    n, (x, y) = math.isqrt(len(probability)), corner
    image = np.reshape(probability, (n, n)).T  # columns of cells to rows of an image
    ax.imshow(image, cmap=PROBABILITY, vmin=0, vmax=1, extent=(x, x + 1, y + 1, y))
    wall = x + doorkey.WALL_X[n + 2] / n  # its right edge
    ax.add_patch(plt.Rectangle((wall - 1 / n, y + 1 / n), 1 / n, 1 - 1 / n, facecolor="0.8"))
    ax.text(wall - 0.03, y + 0.02, "D", ha="right", va="top", fontsize=7, color=GREY)
    ax.text(x + 0.97, y + 0.98, "G", ha="right", va="bottom", fontsize=7, color=GREY)
    ax.add_patch(plt.Rectangle(corner, 1, 1, fill=False, edgecolor=GREY))
    if cell is not None:
        column, row = doorkey.cell_xy(cell, n + 2)
        mark = mark | {"markersize": scale * max(3, 28 / n)}
        ax.plot(x + (column - 0.5) / n, y + (row - 0.5) / n, **mark)


def draw_action(ax, probability, corner=(0, 0), action=None, mark=SEEN):
    """A unit square of four triangles, a direction each, in the colour of its probability."""
    center = np.add(corner, 0.5)
    for (x, y), p in zip(doorkey.MOVES, probability):
        corners = center + 0.5 * np.array([(0, 0), (x - y, y + x), (x + y, y - x)])
        color = {"facecolor": PROBABILITY(p), "edgecolor": "0.8", "linewidth": 0.5}
        ax.add_patch(plt.Polygon(corners, **color))
    ax.add_patch(plt.Rectangle(corner, 1, 1, fill=False, edgecolor=GREY))
    if action is not None:
        ax.plot(*(center + 0.31 * doorkey.MOVES[action]), **mark)


# --------------------------------------------------------------------------------------------------
# Maze2D


def draw_maze2d(path, maze, asked, answers, drawn, known, truth):
    """Sampled paths in the maze, coloured by time; short ones are drawn close up."""
    if drawn:
        fan = drawn["position"][:FAN].numpy()  # (n, steps, 2)
        fan = np.where(known["position"][:, None], fan, np.nan)  # others were not filled in
        title = f"{len(fan)} sampled paths"
    else:
        fan, title = answers["model"]["position"].numpy(), "the mean of each position"
    seen = asked.values["position"][0][asked.see["position"][0]].numpy()  # (m, 2)
    real = np.empty((0, 2)) if truth is None else truth["position"][0].numpy()
    if truth and "position/known" in truth:  # not what stands after a short trajectory's end
        real = real[truth["position/known"][0].numpy()]
    places = np.concatenate([fan.reshape(-1, 2), seen, real])
    if np.isnan(places).all() or not len(places):
        return print("no picture: no position is seen or filled in")
    fig, ax = plt.subplots(figsize=(5.5, 4.9))
    draw_walls(ax, maze)
    low, high = np.nanmin(places, axis=0), np.nanmax(places, axis=0)
    if (high - low).max() < 1.5:  # metres
        (x, y), half = (low + high) / 2, max(0.15, 0.6 * (high - low).max())
        ax.set(xlim=(x - half, x + half), ylim=(y - half, y + half))
        title += ", close up,"
    ax.set_title(f"{title} in the maze {maze!r}")
    lines = LineCollection([], cmap=TIME, linewidth=1.2, alpha=max(0.25, len(fan) ** -0.5))
    ax.add_collection(lines)
    if len(real):
        ax.plot(*real.T, "--", color="black", linewidth=1.2, label="what really happened")
    ax.plot(*seen.T, **SEEN, zorder=4, label="seen")
    if (shown := asked.see["goal"][0]).any():
        star = SEEN | {"marker": "*", "markersize": 14, "zorder": 4}
        ax.plot(*asked.values["goal"][0][shown][-1], **star, label="goal, seen")
    elif drawn and (wanted := asked.predict["goal"][0]).any():
        goals = drawn["goal"][:FAN, wanted.nonzero()[-1, 0]]
        ax.plot(*goals.T, "+", color="black", markersize=6, label="goals, sampled")
    pieces = np.stack([fan[:, :-1], fan[:, 1:]], axis=2)  # (n, steps - 1, 2 ends, 2)
    seconds = 0.01 * np.arange(1, fan.shape[1])

    def show_until(t):
        lines.set_segments(pieces[:, :t].reshape(-1, 2, 2))
        lines.set_array(np.tile(seconds[:t], len(fan)))

    show_until(fan.shape[1])
    lines.set_clim(0, 0.01 * fan.shape[1])
    bar = fig.colorbar(lines, shrink=0.6, aspect=40, pad=0.01, label="time [s]")
    bar.solids.set_alpha(1)
    fig.legend(loc="outside lower center", ncols=4)
    if path.endswith(".png"):
        return save(fig, path)
    steps = np.unique(np.linspace(1, fan.shape[1], FRAMES).astype(int))
    animate(fig, show_until, steps, path, seconds=0.1)


def draw_walls(ax, maze):
    """Draw a maze's walls into matplotlib axes, in the coordinates of positions (metres)."""
    walls, edge = maze2d.layout(maze), 0.5 + maze2d.CELL_OFFSET
    for corner in np.argwhere(walls) - edge:
        ax.add_patch(plt.Rectangle(corner, 1, 1, facecolor="0.82", edgecolor="0.82", linewidth=0.5))
    ax.set(xlim=(-edge, walls.shape[0] - edge), ylim=(-edge, walls.shape[1] - edge))
    ax.set(aspect="equal", xlabel="x [m]", ylabel="y [m]")


# --------------------------------------------------------------------------------------------------
# Files


def save(fig, path):
    """Write a figure: path is then whole, or as it was before."""
    with files.whole(path) as unfinished:
        fig.savefig(unfinished, dpi=130, format="png")
    plt.close(fig)
    print(f"wrote {path}")


def animate(fig, update, steps, path, seconds):
    """Write an animated .gif of a frame for each step, each shown for so many seconds."""
    frames = []
    fig.set_dpi(90)
    for step in steps:
        update(step)
        fig.canvas.draw()
        frames.append(Image.fromarray(np.array(fig.canvas.buffer_rgba())).convert("RGB"))
    with files.whole(path) as unfinished:
        options = {"append_images": frames[1:], "duration": int(1000 * seconds), "loop": 0}
        frames[0].save(unfinished, format="GIF", save_all=True, **options)
    plt.close(fig)
    print(f"wrote {path}")


def main():
    configurator.check(globals(), {"figure": ("curves", "posterior")})
    curves(out_dir.split(",")) if figure == "curves" else posterior(out_dir)


if __name__ == "__main__":
    configurator.apply(globals())
    main()
