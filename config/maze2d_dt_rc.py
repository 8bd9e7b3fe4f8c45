"""Decision-GPT in the medium maze, return-conditioned, from states alone.

    python train.py config/maze2d_dt_rc.py
    python evaluate.py --out_dir=out/maze2d_dt_rc --rollouts=1000 --modes=rc,rc_states

Time and expected numbers: not measured yet.
"""

out_dir = "out/maze2d_dt_rc"
dataset = "maze2d-medium"
task = "dt_rc_states"
num_trajectories = 900
dropout = 0.0
norm = "pre"
octaves = 8
differences = True
model = "dt"
eval_rollouts = 100
eval_modes = "rc,rc_states"
keep_best = "return"
context = 5
eval_interval = 1000
max_iters = 5000
learning_rate = 2e-3
ema = 0.998
dtype = "bfloat16"
