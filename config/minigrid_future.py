"""Future inference alone: the states and actions that follow what is seen.

    python train.py config/minigrid_future.py && python evaluate.py --out_dir=out/minigrid_future

Time and expected numbers: not measured yet; the exact limit is 4.22.
"""

out_dir = "out/minigrid_future"
dataset = "doorkey"
task = "future"
dropout = 0.2
weight_decay = 0.1
dtype = "bfloat16"
max_iters = 1500
eval_tasks = "future"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
