"""Decision-GPT in the medium maze, behaviour cloning from states alone.

    python train.py config/maze2d_dt_bc.py
    python rollout.py --out_dir=out/maze2d_dt_bc --episodes=1000 --modes=bc,bc_states

5,000 steps take 2.3 minutes on one core, beside another run. Return over 1,000 fresh episodes, +-
0.04: bc 2.80, bc_states 2.90; the demonstrator's is 2.83 (repro/results/maze2d_medium.jsonl,
dt_bc_T5_s0).
"""

out_dir = "out/maze2d_dt_bc"
dataset = "maze2d-medium"
task = "dt_bc_states"
num_trajectories = 900
dropout = 0.1
fourier_features = 4
differences = True
model_type = "dt"
eval_modes = "bc,bc_states"
keep_best = "return"
context = 5
learning_rate = 2e-3
ema = 0.998
dtype = "bfloat16"
n_layer = 1
n_ff = 1024
head = "median"
max_iters = 5000
eval_interval = 1250
eval_rollouts = 100
