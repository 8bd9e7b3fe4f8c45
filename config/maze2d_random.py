"""Random masking in the medium maze: one model for every question, control among them.

    python train.py config/maze2d_random.py
    python rollout.py --out_dir=out/maze2d_random --episodes=1000 --modes=bc,bc_states,rc,rc_states

8,000 steps take 4 to 5 minutes on one core, beside other work. Return over 1,000 fresh episodes,
+- 0.04: bc 2.46, bc_states 2.20, rc 2.47, rc_states 2.24; the demonstrator's is 2.83
(repro/results/maze2d_medium.jsonl, unimask_random_T5_s0).
"""

out_dir = "out/maze2d_random"
dataset = "maze2d-medium"
task = "random"
context = 5
num_trajectories = 900
dropout = 0.0  # no two masks are alike: there is little to learn by heart. With 0.1 it earns 1.95
fourier_features = 4
differences = True
learning_rate = 2e-3
ema = 0.998
dtype = "bfloat16"
eval_modes = "bc,bc_states,rc,rc_states"
keep_best = "return"
n_layer = 2
n_ff = 1024
head = "median"
max_iters = 8000
eval_interval = 2000
eval_rollouts = 100
