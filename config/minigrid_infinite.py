"""Random masking with fresh trajectories at every step: how close to the exact limit the model
itself can come.

    python train.py config/minigrid_infinite.py
    python evaluate.py --out_dir=out/minigrid_infinite

80,000 steps took 75 minutes on one core of a busy two-core machine (55 ms a step). Expect gaps to
the limit of at most 0.02 nats on each of the eight tasks: the weights, log and evaluation of that
run are in assets/minigrid_infinite. There is nothing to overfit, so no dropout; half of the
sequences are masked at random, half as in the eight tasks.
"""

out_dir = "out/minigrid_infinite"
dataset = "doorkey"
task = "random+all"
eval_tasks = "all"  # the paper's eight; their sum chooses the checkpoint
fresh = True
dropout = 0.0
n_layer = 4
warmup_iters = 500
learning_rate = 1e-3
max_iters = 80000
eval_interval = 4000
eval_sequences = 2000
