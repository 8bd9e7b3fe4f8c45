"""Random masking in the medium maze: one model for every question, control among them.

    python train.py config/maze2d_random.py
    python evaluate.py --out_dir=out/maze2d_random --rollouts=1000 --modes=bc,bc_states,rc,rc_states

10,000 steps take under 5 minutes on one core, beside another run. Over 1,000 fresh episodes, without finetuning: return
1.78 as a clone (bc), 1.84 return-conditioned (rc), 1.61 and 1.60 asked without past actions; the demonstrator's is 2.83.
"""

out_dir = "out/maze2d_random"
dataset = "maze2d-medium"
task = "random"
context = 5
num_trajectories = 900
dropout = 0.1
norm = "pre"
octaves = 4
differences = True
learning_rate = 2e-3
ema = 0.998
dtype = "bfloat16"
eval_modes = "bc,bc_states,rc,rc_states"
keep_best = "return"
n_layer = 1
n_ff = 2048
head = "median"
max_iters = 8000
eval_interval = 2000
eval_rollouts = 100
