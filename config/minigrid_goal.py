"""Goal-conditioned control alone: the next action, given the past and the last state.

    python train.py config/minigrid_goal.py && python evaluate.py --out_dir=out/minigrid_goal

0.5 minutes on one core, beside another run. Test loss 0.967 +- 0.020 over 6 seeds; the exact limit
is 0.806 (repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_goal"
dataset = "doorkey"
task = "goal_conditioned"
n_embd = 64
n_head = 4
weight_decay = 0.1
dropout = 0.2
max_iters = 1000
eval_tasks = "goal_conditioned"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
