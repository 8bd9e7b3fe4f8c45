"""One set of weights for DoorKey, of nothing but 500 demonstrations: random masks and the eight
tasks, with strong weight decay.

    python train.py config/minigrid_one.py && python evaluate.py --out_dir=out/minigrid_one
"""

out_dir = "out/minigrid_one"
dataset = "doorkey"
task = "random+all"
eval_tasks = "all"  # the paper's eight; their sum chooses the checkpoint
weight_decay = 1.0  # what it learns by heart fades, and what holds everywhere stays
dtype = "bfloat16"
max_iters = 5000
eval_interval = 1000
