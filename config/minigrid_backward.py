"""Backward dynamics alone: the state before a known action that led to a known state.

    python train.py config/minigrid_backward.py && python evaluate.py --out_dir=out/minigrid_backward

Time and expected numbers: not measured yet; the exact limit is 0.55.
"""

out_dir = "out/minigrid_backward"
dataset = "doorkey"
task = "backward_dynamics"
n_embd = 64
n_head = 4
weight_decay = 0.1
max_iters = 2000
eval_tasks = "backward_dynamics"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
