"""Return-conditioned control alone: the next action, given the past and the return of the whole.

    python train.py config/minigrid_rc.py && python evaluate.py --out_dir=out/minigrid_rc

0.3 minutes on one core, beside another run. Test loss 1.043 +- 0.008 over 6 seeds; the exact limit
is 0.867 (repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_rc"
dataset = "doorkey"
task = "reward_conditioned"
n_embd = 32
n_layer = 2
n_head = 4
weight_decay = 0.1
max_iters = 1000
eval_tasks = "reward_conditioned"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
