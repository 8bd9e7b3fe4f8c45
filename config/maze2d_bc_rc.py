"""Behaviour cloning and return-conditioned control in the medium maze, in one model, from states
alone.

    python train.py config/maze2d_bc_rc.py
    python rollout.py --out_dir=out/maze2d_bc_rc --episodes=1000 --modes=bc,bc_states,rc,rc_states

5,000 steps take 2.3 minutes on one core, beside another run. Return over 1,000 fresh episodes, +-
0.04: bc 2.82, bc_states 2.85, rc 2.82, rc_states 2.86; the demonstrator's is 2.83
(repro/results/maze2d_medium.jsonl, unimask_bc_rc_T5_s0).
"""

out_dir = "out/maze2d_bc_rc"
dataset = "maze2d-medium"
task = "behavior_cloning_states+reward_conditioned_states"
num_trajectories = 900
dropout = 0.1
fourier_features = 4
differences = True
eval_modes = "bc,bc_states,rc,rc_states"
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
