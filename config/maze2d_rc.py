"""Return-conditioned control in the medium maze, from states alone.

    python train.py config/maze2d_rc.py
    python rollout.py --out_dir=out/maze2d_rc --episodes=1000 --modes=rc,rc_states

5,000 steps take 3.0 minutes on one core, beside another run. Return over 1,000 fresh episodes, +-
0.04: rc 2.79, rc_states 2.85; the demonstrator's is 2.83 (repro/results/maze2d_medium.jsonl,
unimask_rc_T5_s0).
"""

out_dir = "out/maze2d_rc"
dataset = "maze2d-medium"
task = "reward_conditioned_states"
num_trajectories = 900
dropout = 0.1
fourier_features = 4
differences = True
eval_modes = "rc,rc_states"
keep_best = "return"
context = 5
batch_size = 400
learning_rate = 4e-3
ema = 0.995
dtype = "bfloat16"
n_layer = 1
n_ff = 2048
head = "median"
max_iters = 5000
eval_interval = 1250
eval_rollouts = 100
