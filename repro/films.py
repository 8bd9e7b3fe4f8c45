"""Trajectories of which most are films: all but a tenth of the training episodes lose their actions.

    python repro/films.py --source=out/hopper.npz --out=out/hopper_films.npz

Episodes that validate and test keep theirs. Before this: importing.py. Read next: locomotion.sh.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import files
import worlds
from data import Trajectories

# ---- settings ------------------------------------------------------------------------------------
source = "out/hopper.npz"  # trajectories
labelled = 0.1  # the share of the training episodes that keep their actions
out = "out/hopper_films.npz"
# --------------------------------------------------------------------------------------------------


def main():
    files.check_writable(out, new=True)
    made = Trajectories.load(source)
    train = len(made) - 2 * worlds.tenth(made)
    film = (np.arange(len(made)) >= round(labelled * train)) & (np.arange(len(made)) < train)
    for f in (f for f in made.factors if f.group == "ACTION"):
        made.values[f"{f.name}/known"] = np.broadcast_to(~film[:, None], made.valid().shape).copy()
        made.values[f.name][film] = 0
    made.save(out)
    print(f"{worlds.describe(made)}\nsaved to {out}")


if __name__ == "__main__":
    configurator.apply(globals())
    main()
