"""Return-conditioned control alone: the next action, given the past and the return still to go.

    python train.py config/minigrid_rc.py && python evaluate.py --out_dir=out/minigrid_rc

Time and expected numbers: not measured yet; the exact limit is 0.87.
"""

out_dir = "out/minigrid_rc"
dataset = "doorkey"
task = "reward_conditioned"
n_embd = 32
n_layer = 2
n_head = 4
weight_decay = 0.1
max_iters = 2000
eval_tasks = "reward_conditioned"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
