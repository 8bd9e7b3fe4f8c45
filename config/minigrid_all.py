"""Multi-task training: each sequence draws one of the eight tasks, instead of a random mask.

    python train.py config/minigrid_all.py && python evaluate.py --out_dir=out/minigrid_all

Time and expected numbers: not measured yet.
"""

out_dir = "out/minigrid_all"
dataset = "doorkey"
task = "all"
max_iters = 4000
dtype = "bfloat16"
