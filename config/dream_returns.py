"""What was it worth? A small model that says the return-to-go of a timestep, from its state, its
action and the return-to-go after it.

    python train.py config/dream_returns.py
    python evaluate.py --out_dir=out/dream_returns --tasks=return_backup

For dream.py, which gives its trajectories their returns by it, from the last timestep to the first.
1 to 3 minutes on one core.
"""

out_dir = "out/dream_returns"
dataset = "doorkey"
task = "return_backup"
eval_tasks = "return_backup"
return_weight = 1.0
n_embd = 64
n_layer = 2
n_head = 4
norm = "post"
learning_rate = 2e-3
weight_decay = 2.0  # strong: it is to add up, and not to learn returns by heart
max_iters = 3000
