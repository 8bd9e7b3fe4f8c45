"""Random masking on the larger DoorKey: a 14 x 14 interior, 196 cells, and walks too short to reach the goal.

    python train.py config/minigrid16_random.py && python evaluate.py --out_dir=out/minigrid16_random

About TODO-numbers minutes on 2 cores. Expect test losses near TODO-numbers.
"""

out_dir = "out/minigrid16_random"
dataset = "doorkey16"
task = "random"
