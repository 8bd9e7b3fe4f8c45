"""Behaviour cloning alone: what one task learns from 500 DoorKey trajectories, to compare with random masking.

    python train.py config/minigrid_bc.py && python evaluate.py --out_dir=out/minigrid_bc

Time and expected numbers: not measured yet; the exact limit is 1.09.
"""

out_dir = "out/minigrid_bc"
dataset = "doorkey"
task = "behavior_cloning"
