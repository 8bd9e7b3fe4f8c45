"""Backward dynamics alone: the state before a known action that led to a known state.

    python train.py config/minigrid_backward.py && python evaluate.py --out_dir=out/minigrid_backward

Time and expected numbers: not measured yet; the exact limit is 0.55.
"""

out_dir = "out/minigrid_backward"
dataset = "doorkey"
task = "backward_dynamics"
