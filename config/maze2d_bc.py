"""Behaviour cloning in the medium maze from states alone: past actions mislead a clone of a noisy
demonstrator.

    python train.py config/maze2d_bc.py
    python rollout.py --out_dir=out/maze2d_bc --episodes=1000 --modes=bc,bc_states

5,000 steps take 2.2 minutes on one core, beside another run. Return over 1,000 fresh episodes, +-
0.04: bc 2.89, bc_states 2.89; the demonstrator's is 2.83 (repro/results/maze2d_medium.jsonl,
unimask_bc_T5_s0).
"""

out_dir = "out/maze2d_bc"
dataset = "maze2d-medium"
task = "behavior_cloning_states"
context = 5
num_trajectories = 900
dropout = 0.1
fourier_features = 4
differences = True
eval_tasks = "behavior_cloning,behavior_cloning_states"
batch_size = 400  # one timestep of each window is computed: four times as many cost twice as much
learning_rate = 4e-3
ema = 0.995
dtype = "bfloat16"
eval_modes = "bc,bc_states"
keep_best = "return"
n_layer = 1
n_ff = 2048
head = "median"
max_iters = 5000
eval_interval = 1250
eval_rollouts = 100
