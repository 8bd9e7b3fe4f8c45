"""What was it worth? A small model that says the return-to-go at each timestep of a whole
trajectory.

    python train.py config/dream_returns.py
    python evaluate.py --out_dir=out/dream_returns --tasks=return_to_go

For dream.py, which gives its trajectories their returns by it. Half a minute on one core; from 500
demonstrations it is right in 97% of the timesteps of others.
"""

out_dir = "out/dream_returns"
dataset = "doorkey"
task = "return_to_go"
eval_tasks = "return_to_go"
return_weight = 1.0
n_embd = 64
n_layer = 2
n_head = 4
weight_decay = 0.1
max_iters = 1500
