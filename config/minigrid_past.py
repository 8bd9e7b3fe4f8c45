"""Past inference alone: the states and actions that led to what is seen.

    python train.py config/minigrid_past.py && python evaluate.py --out_dir=out/minigrid_past

Time and expected numbers: not measured yet; the exact limit is 4.33.
"""

out_dir = "out/minigrid_past"
dataset = "doorkey"
task = "past"
n_embd = 64
n_head = 4
weight_decay = 0.1
max_iters = 2000
eval_tasks = "past"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
