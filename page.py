"""A page to play with: hide a part of a trajectory, see what the model and exact inference say.

    python page.py --out_dir=assets/minigrid_queries --out=assets/page.html

It is a single file that needs no server and no network: the sources in page/, and in them the
weights of a model, the world's table, and a few test trajectories. page/model.js is model.py once
more, page/posterior.js is bayes.py; the masks come from masks.py. With --maze_dir there is a second
tab, in which a model drives: page/particle.js is the physics of maze2d.py.
Before this: sample.py.
"""

import configurator

import base64
import json
import os
from dataclasses import asdict

import numpy as np
import torch

import checkpoint
import doorkey
import files
import masks
import maze2d
import worlds

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/minigrid_random"  # a folder that train.py made: a UniMASK model of DoorKey
maze_dir = ""  # another, of a model that drives in Maze2D, for a second tab; "": no such tab
out = "out/page.html"  # the page to write
examples = 8  # test trajectories to choose from on the page
# --------------------------------------------------------------------------------------------------

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
SCRIPTS = (
    *("model.js", "posterior.js", "particle.js"),  # the models, and what they are held against
    *("page.js", "draw.js", "doorkey.js", "maze.js"),  # what one sees and does
)
SHOWN = {  # what page/model.js can compute
    "model_type": ("unimask",),
    "layout": ("timestep",),
    "hidden": ("flag",),
    "embedding": ("relu",),
    "positions": ("sinusoidal", "learned"),
    "head": ("mean", "median"),
    "tanh_actions": (False,),
}


class Every(masks.Batch):
    """A batch with a sequence for each timestep, in order, in the place of random ones."""

    def index(self, low, high):
        return (low + torch.arange(self.B)).clamp(max=high)


def build(network, trained, tests, driver=None, maze=""):
    """The page as text. trained: the settings of the network's training; tests: Trajectories.

    driver: a model of Maze2D, or None; maze: the name of its maze.
    Raises ValueError for a world or a model that the page cannot show.
    """
    check(network, out_dir, tests.world, "doorkey")
    if network.config.context != doorkey.LENGTH:
        raise ValueError(f"{out_dir} has context={network.config.context}, not {doorkey.LENGTH}")
    configurator.check(globals(), {"examples": (1, len(tests) + 1)})
    content, weights = {}, {}
    content["model"], weights["model"] = pack(network, 16)
    # without it the model never met half a state: agent and key then hide together
    content |= {"single": bool(trained.get("factor_hiding")), "world": world_table()}
    content |= {"masks": task_masks(), "examples": [
        {name: x[i].tolist() for name, x in tests.values.items()} for i in range(examples)
    ]}  # fmt: skip
    weights["driver"] = ""
    if driver:
        check(driver, maze_dir, maze, "maze2d-")
        plain, weights["driver"] = pack(driver, 8)
        walls = maze2d.layout(maze.removeprefix("maze2d-"))
        content["maze"] = {"model": plain, "walls": walls.astype(int).tolist()}
    text = source("page.html")
    for name in SCRIPTS:
        text = put(text, f'<script src="{name}"></script>', f"<script>\n{source(name)}</script>")
    css = f"<style>\n{source('page.css')}</style>"
    text = put(text, '<link rel="stylesheet" href="page.css">', css)
    data = json.dumps(content, separators=(",", ":"))
    text = put(text, "{{data}}", data.replace("<", "\\u003c"))
    for name, part in weights.items():
        text = put(text, f"{{{{{name}}}}}", part)
    return text


def check(network, folder, world, wanted):
    """Raise ValueError for a world or a model that the page cannot show."""
    same = world == wanted or (wanted.endswith("-") and world.startswith(wanted))
    if not same or world.endswith("-raw"):
        raise ValueError(f"{folder} is of the world {world!r}, which that tab does not show")
    for name, shown in SHOWN.items():
        if (found := getattr(network.config, name)) not in shown:
            raise ValueError(f"{folder} has {name}={found!r}: the page shows {shown[0]!r} only")


def pack(network, bits):
    """A model as plain data, and its weights as text; bits: 8 or 16 for an entry of a matrix.

    A row of integers shares a scale. Sixteen bits change a probability of DoorKey by less than
    0.001, as float16 would not. Base85 holds four bytes in five characters.
    """
    shapes, parts = {}, []
    for name, (scale, numbers, size) in rounded(network, bits).items():
        shapes[name] = [size, *numbers.shape]
        upper = scale.view("<u4") >> 16
        parts += [upper.astype("<u2").tobytes(), numbers.astype(f"<i{size // 8}").tobytes()]
    config = ("n_head", "n_layer", "norm", "context", "fourier_features", "differences")
    plain = {name: getattr(network.config, name) for name in config} | {"shapes": shapes}
    plain["factors"] = [asdict(f) for f in network.factors]
    plain["predicted"] = [f.name for f in network.predicted]
    content = b"".join(parts)
    return plain, base64.b85encode(content + bytes(-len(content) % 4)).decode()


def rounded(network, bits):
    """{name: (scale (rows, 1), integers (rows, columns), bits)} whose products are the weights.

    Vectors and positions have sixteen bits in any case.
    """
    tensors = dict(network.state_dict())
    tensors["position"] = network.position[: network.config.context].detach()  # (T, d)
    found = {}
    for name, tensor in tensors.items():
        size = bits if tensor.dim() > 1 and name != "position" else 16
        rows = np.atleast_2d(tensor.float().numpy())
        step = np.abs(rows).max(axis=1, keepdims=True) / (2 ** (size - 1) - 1)
        upper = (np.maximum(step, 1e-30).astype("<f4").view("<u4") >> 16) + 1  # half of its bytes
        scale = (upper << 16).view("<f4")
        found[name] = scale, np.rint(rows / scale).astype(np.int16), size
    return found


def world_table():
    """DoorKey as plain data. S = 77 states; state and beta, the demonstrator's rationality."""
    table = doorkey.table()
    return {
        "agent_pos": table.states[:, 0].tolist(),  # (S,)
        "key_pos": table.states[:, 1].tolist(),  # (S,)
        "distance": table.distance.tolist(),  # (S,)
        "successor": table.successor.tolist(),  # (S, 4)
        "policy": table.policy.round(9).tolist(),  # (3, S, 4)
        "starts": table.starts.tolist(),  # equally probable states
        "betas": doorkey.BETA_PROBABILITIES.tolist(),  # (3,)
        "offset": doorkey.RETURN_OFFSET[table.size],
        "wall": doorkey.WALL_X[table.size],
    }


def task_masks():
    """{task: {"see", "predict"}}: (T, T) of "110" for each timestep the mask of masks.py."""
    T, found = doorkey.LENGTH, {}
    for name in masks.EIGHT:
        see, predict = masks.TASKS[name](Every(T, T, torch.Generator(), False))
        found[name] = {"see": digits(see), "predict": digits(predict)}
    return found


def digits(mask):
    """(..., 3) booleans as lists of text, such as "110"."""
    if mask.dim() == 1:
        return "".join(str(int(x)) for x in mask)
    return [digits(part) for part in mask]


def source(name):
    with open(os.path.join(SOURCES, name), encoding="utf-8") as file:
        return file.read()


def put(text, place, content):
    """Text with a content in its place, of which there must be one."""
    before, after = text.split(place)
    return before + content + after


def main():
    files.check_writable(out, ".html")
    network, trained = checkpoint.open_run(out_dir)
    tests = worlds.evaluation_set(*worlds.source_of(trained), "test")
    drives = maze_dir and (checkpoint.load(maze_dir), checkpoint.settings(maze_dir)["dataset"])
    text = build(network, trained, tests, *drives or ())
    files.save_text(out, text)
    print(f"{out}: {len(text.encode()) / 1e6:.2f} MB; open it in a browser")


if __name__ == "__main__":
    configurator.apply(globals())
    main()
