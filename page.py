"""A page to play with: hide a part of a trajectory, see what the model and exact inference say.

    python page.py --out_dir=assets/minigrid_queries --out=assets/page.html

It is a single file that needs no server and no network: the sources in page/, and in them the
weights of a model, the world's table, and a few test trajectories. page/model.js is model.py once
more, page/posterior.js is bayes.py, and page/page.js lets you play. The masks come from masks.py.
Before this: sample.py.
"""

import base64
import json
import os

import numpy as np
import torch

import checkpoint
import configurator
import doorkey
import masks
import worlds

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/minigrid_random"  # a folder that train.py made: a UniMASK model of DoorKey
out = "out/page.html"  # the page to write
examples = 8  # test trajectories to choose from on the page
# --------------------------------------------------------------------------------------------------

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
SCRIPTS = ("model.js", "posterior.js", "draw.js", "page.js")
SHOWN = {  # what page/model.js can compute
    "model_type": "unimask",
    "layout": "timestep",
    "hidden": "flag",
    "embedding": "relu",
    "context": doorkey.LENGTH,
}


class Every(masks.Batch):
    """A batch with a sequence for each timestep, in order, in the place of random ones."""

    def index(self, low, high):
        return (low + torch.arange(self.B)).clamp(max=high)


def build(network, trained, tests):
    """The page as text. trained: the settings of the network's training; tests: Trajectories."""
    check(network, tests)
    tensors = dict(network.state_dict())
    tensors["position"] = network.position[: network.config.context].detach()  # (T, d)
    content = {
        "model": {name: getattr(network.config, name) for name in ("n_head", "n_layer", "norm")},
        "factors": [{"name": f.name, "group": f.group, "size": f.size} for f in network.factors],
        "predicted": [f.name for f in network.predicted],
        "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
        # without it the model never met half a state: agent and key then hide together
        "single": bool(trained.get("factor_hiding")),
        "world": world_table(),
        "masks": task_masks(),
        "examples": [
            {name: x[i].tolist() for name, x in tests.values.items()} for i in range(examples)
        ],
    }
    text = source("page.html")
    for name in SCRIPTS:
        text = put(text, f'<script src="{name}"></script>', f"<script>\n{source(name)}</script>")
    css = f"<style>\n{source('page.css')}</style>"
    text = put(text, '<link rel="stylesheet" href="page.css">', css)
    data = json.dumps(content, separators=(",", ":"))
    text = put(text, "{{data}}", data.replace("<", "\\u003c"))
    return put(text, "{{weights}}", encode(tensors.values()))


def check(network, tests):
    """Raise ValueError for a world or a model that the page cannot show."""
    if tests.world != "doorkey":
        raise ValueError(f"{out_dir} is of the world {tests.world!r}: the page shows doorkey only")
    for name, wanted in SHOWN.items():
        if (found := getattr(network.config, name)) != wanted:
            raise ValueError(f"{out_dir} has {name}={found!r}: the page shows {wanted!r} only")
    configurator.check(globals(), {"examples": (1, len(tests) + 1)})


def encode(tensors):
    """float32 numbers as text, without their last byte: a relative error of 2e-5.

    That is a quarter less than all of it. A float16, half of it, would change some probabilities
    by 0.003.
    """
    numbers = torch.cat([tensor.flatten().float() for tensor in tensors]).numpy()
    rounded = numbers.astype("<f4").view("<u4") + np.uint32(128)  # to the nearest of what is left
    return base64.b64encode(rounded.view("u1").reshape(-1, 4)[:, 1:].tobytes()).decode()


def world_table():
    """DoorKey as plain data. S = 77 states; state and beta, the demonstrator's rationality."""
    table = doorkey.table()
    prior = np.zeros((len(table.states), 3))
    prior[table.starts] = doorkey.BETA_PROBABILITIES / len(table.starts)
    return {
        "agent_pos": table.states[:, 0].tolist(),  # (S,)
        "key_pos": table.states[:, 1].tolist(),  # (S,)
        "distance": table.distance.tolist(),  # (S,)
        "successor": table.successor.tolist(),  # (S, 4)
        "policy": table.policy.tolist(),  # (3, S, 4)
        "prior": prior.tolist(),  # (S, 3)
        "offset": doorkey.RETURN_OFFSET[table.size],
        "wall": doorkey.WALL_X[table.size],
    }


def task_masks():
    """{task: {"see", "predict": (T, T, 3) of 0 and 1}}: for each timestep the masks of masks.py."""
    T, found = doorkey.LENGTH, {}
    for name in masks.EIGHT:
        see, predict = masks.TASKS[name](Every(T, T, torch.Generator(), False))
        found[name] = {"see": see.int().tolist(), "predict": predict.int().tolist()}
    return found


def source(name):
    with open(os.path.join(SOURCES, name), encoding="utf-8") as file:
        return file.read()


def put(text, place, content):
    """Text with a content in its place, of which there must be one."""
    before, after = text.split(place)
    return before + content + after


def main():
    network, trained = checkpoint.load(out_dir), checkpoint.settings(out_dir)
    tests = worlds.evaluation_set(*worlds.source_of(trained), "test")
    text = build(network, trained, tests)
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    checkpoint.save_text(out, text)
    print(f"{out}: {len(text.encode()) / 1e6:.2f} MB; open it in a browser")


if __name__ == "__main__":
    configurator.apply(globals())
    main()
