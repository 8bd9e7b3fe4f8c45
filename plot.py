"""Figures: every picture that the README shows is drawn here, from results files.

    python plot.py curves out/minigrid_random        # loss curves of one or more runs, to curves.png in the first folder
    python plot.py posterior out/minigrid_infinite   # the exact posterior over the grid beside the model's

Read next: sample.py, which draws answers to single questions.
"""

import csv
import os
import sys

import matplotlib

import configurator

matplotlib.use("Agg")  # figures go to files: no display is needed
import matplotlib.pyplot as plt

LINE_STYLES = ("-", "--", ":", "-.")


def curves(folders):
    """Validation loss of every task against steps, a panel per task, with a dashed line at the Bayes limit if it is known."""
    logs = [read_log(folder) for folder in folders]
    tasks = [name for name in logs[0][0] if name not in ("iter", "lr", "train_loss") and not name.endswith("_gap")]
    columns = min(4, len(tasks))
    lines = -(-len(tasks) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.4 * columns, 2.6 * lines), squeeze=False, constrained_layout=True
    )
    for ax, task in zip(axes.flat, tasks):
        for number, (folder, log) in enumerate(zip(folders, logs)):
            rows = [row for row in log if row.get(task)]
            steps, values = [int(row["iter"]) for row in rows], [float(row[task]) for row in rows]
            ax.plot(
                steps, values, LINE_STYLES[number % 4], color="black", label=os.path.basename(os.path.normpath(folder))
            )
        gap = logs[0][-1].get(f"{task}_gap")
        if gap:
            limit = float(logs[0][-1][task]) - float(gap)
            ax.axhline(limit, color="grey", linestyle=(0, (5, 3)))
            ax.annotate(f"Bayes limit {limit:.2f}", (0.98, limit), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                        color="dimgrey", fontsize=8)  # fmt: skip
        ax.set_title(task.replace("_", " "), fontsize=10)
        ax.set_xlabel("training step", fontsize=8)
        ax.tick_params(labelsize=8)
    for ax in list(axes.flat)[len(tasks) :]:
        ax.axis("off")
    axes[0, 0].set_ylabel("validation loss", fontsize=8)
    if len(folders) > 1:
        axes[0, 0].legend(fontsize=7)
    save(figure, os.path.join(folders[0], "curves.png"))


def posterior(folders, number=5, hidden=(3, 8)):
    """One DoorKey trajectory with a hidden middle: where agent and key may be, by exact inference and by a model."""
    import bayes
    import doorkey
    import evaluate
    import masks
    from model import load

    model, config = load(folders[0]), evaluate.read_config(folders[0])
    if not config["dataset"].startswith("doorkey"):
        raise ValueError(f"{folders[0]} was trained on {config['dataset']}: only DoorKey has an exact posterior")
    one = evaluate.evaluation_set(config["dataset"], config["num_trajectories"], config["data_seed"], "test")[
        number : number + 1
    ]
    see, _ = masks.draw("span({},{})".format(*hidden), 1, doorkey.LENGTH, evaluate.torch.Generator())
    exact = bayes.posterior(one, see)
    outputs = evaluate.answer(model, one.tensors(), see)
    learned = {name: y.softmax(dim=-1).numpy() for name, y in outputs.items()}
    rows = [("agent", "exact", exact["agent_pos"]), ("agent", "model", learned["agent_pos"]),
            ("key", "exact", exact["key_pos"]), ("key", "model", learned["key_pos"])]  # fmt: skip
    size = one.factors[0].size ** 0.5 + 2
    figure, axes = plt.subplots(
        len(rows), doorkey.LENGTH, figsize=(1.25 * doorkey.LENGTH, 1.4 * len(rows)), constrained_layout=True
    )
    for line, (what, who, probability) in zip(axes, rows):
        for t, ax in enumerate(line):
            truth, shown = one.values[f"{what}_pos"][0, t], see[0, t, masks.STATE]
            # a model's outputs for what it is shown mean nothing: the exact posterior of that is a certainty
            draw_grid(
                ax, int(size), exact[f"{what}_pos"][0, t] if shown else probability[0, t], truth if shown else None
            )
            if not shown:
                ax.plot(*doorkey.cell_xy(truth, int(size)), "x", color="red", markersize=6)
        line[0].set_ylabel(f"{what}\n{who}", fontsize=10)
    for t, ax in enumerate(axes[0]):
        ax.set_title(f"t={t}" + ("" if see[0, t, masks.STATE] else " hidden"), fontsize=9)
    figure.suptitle("darker: more probable; red cross: where it really was while hidden; dot: seen", fontsize=9)
    save(figure, os.path.join(folders[0], "posterior.png"))


def draw_grid(ax, size, probability, seen=None):
    """The DoorKey grid with probabilities (cells,) in grey, walls hatched, D the door, G the goal, a dot at a seen cell."""
    import doorkey

    cells = probability.reshape(size - 2, size - 2).T  # columns of cells to an image of rows
    ax.imshow(cells, cmap="Greys", vmin=0, vmax=1, extent=(0.5, size - 1.5, size - 1.5, 0.5))
    wall = doorkey.WALL_X[size]
    ax.add_patch(
        plt.Rectangle((wall - 0.5, 1.5), 1, size - 3, hatch="////", facecolor="none", edgecolor="grey", linewidth=0)
    )
    ax.text(wall, 1, "D", ha="center", va="center", fontsize=7, color="steelblue")
    ax.text(size - 2, size - 2, "G", ha="center", va="center", fontsize=7, color="steelblue")
    if seen is not None:
        ax.plot(*doorkey.cell_xy(seen, size), "o", color="white", markeredgecolor="black", markersize=5)
    ax.set_xticks([])
    ax.set_yticks([])


def read_log(folder):
    """The rows of a run's log.csv as dictionaries of text. Raises ValueError if there are none."""
    path = os.path.join(folder, "log.csv")
    if not os.path.exists(path):
        raise ValueError(f"there is no {path}: train with train.py --out_dir={folder} first")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        [float(text) for row in rows for text in row.values() if text]
    except (csv.Error, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a log as train.py writes it: {error}") from None
    if not rows:
        raise ValueError(f"{path} has no evaluation yet")
    return rows


def save(figure, path):
    """Write a figure beside its place and rename it."""
    with configurator.beside(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")
    plt.close(figure)
    print(f"wrote {path}")


def main():
    configurator.one_line_errors()
    commands = {"curves": curves, "posterior": posterior}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        raise ValueError(f"usage: python plot.py {{{','.join(commands)}}} FOLDER ...")
    commands[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
