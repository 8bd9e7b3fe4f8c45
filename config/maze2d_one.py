"""One set of weights that drives and answers everything else: random masks, and the two questions
of control.

    python train.py config/maze2d_one.py
    python rollout.py --out_dir=out/maze2d_one --episodes=1000 --modes=bc,bc_states,rc,rc_states

With --context=10 for the longer window.
"""

out_dir = "out/maze2d_one"
dataset = "maze2d-medium"
task = "random+behavior_cloning_states+reward_conditioned_states"
context = 5
num_trajectories = 900
dropout = 0.1
norm = "pre"
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
max_iters = 36000
eval_interval = 4000
eval_rollouts = 100
