"""One set of weights for DoorKey, of nothing but 500 demonstrations: random masks and the eight
tasks.

    python train.py config/minigrid_one.py && python evaluate.py --out_dir=out/minigrid_one
"""

out_dir = "out/minigrid_one"
dataset = "doorkey"
task = "random+all"
eval_tasks = "all"  # the paper's eight; their sum chooses the checkpoint
dtype = "bfloat16"
learning_rate = 8e-3
max_iters = 2500
