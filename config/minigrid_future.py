"""Future inference alone: the states and actions that follow what is seen.

    python train.py config/minigrid_future.py && python evaluate.py --out_dir=out/minigrid_future

Time and expected numbers: not measured yet; the exact limit is 4.22.
"""

out_dir = "out/minigrid_future"
dataset = "doorkey"
task = "future"
n_embd = 64
n_head = 4
weight_decay = 0.1
max_iters = 2000
eval_tasks = "future"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
