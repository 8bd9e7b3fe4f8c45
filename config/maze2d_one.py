"""One set of weights that drives and answers everything else: random masks, and the two questions
of control.

    python train.py config/maze2d_one.py
    python rollout.py --out_dir=out/maze2d_one --episodes=1000 --modes=bc,bc_states,rc,rc_states

36,000 steps take 40 minutes on a core shared with other work. Return over 1,000 fresh episodes: bc
2.91, bc_states 2.95, rc 2.92, rc_states 2.95; the demonstrator's is 2.83 (unimask_one_T5_s0 in
repro/results/maze2d_medium.jsonl). With --dropout=0 --max_iters=8000, in 4 to 8 minutes: 2.84, 2.85,
2.85, 2.85 (repro/results/masks.md). `bash repro/one.sh` has the longer window as well, with
--context=10 --max_iters=24000.
"""

out_dir = "out/maze2d_one"
dataset = "maze2d-medium"
task = "random+behavior_cloning_states+reward_conditioned_states"
context = 5
num_trajectories = 900
dropout = 0.1
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
