"""Random masking on the larger DoorKey: a 14 x 14 interior, 196 cells, and walks too short to reach the goal.

    python train.py config/minigrid16_random.py && python evaluate.py --out_dir=out/minigrid16_random

Time and expected numbers: not measured yet.
"""

out_dir = "out/minigrid16_random"
dataset = "doorkey16"
task = "random"
