"""Data of others, of mixed quality: one set of weights that clones, earns what it is asked for, and
answers every other question. The example is Hopper; nothing here depends on it. The mode that hides
past actions is the one to play: a policy that sees its own copies them.

    python importing.py --source=minari:mujoco/hopper/medium-v0 --out=out/hopper.npz
    python train.py config/locomotion.py
    python rollout.py --out_dir=out/locomotion --env=Hopper-v5 --modes=bc_states,rc_states

4,000 steps take 6 to 8 minutes beside much other work. On the data of repro/make_locomotion.py it
earns 987 cloning and 1,703 asked for 3,000, the data 863 on average and their best tenth 2,882
(one_short, seed 0, in repro/results/locomotion_hopper.jsonl). A model of the one question, with
--task=reward_conditioned_states, earns 2,806 when asked for 3,000 (rc, three seeds); one set with
--context=3 --max_iters=6000 --n_ff=512 --learning_rate=2e-3 --state_weight=0.05 earns 2,793 (one).
"""

out_dir = "out/locomotion"
dataset = "out/hopper.npz"
num_trajectories = 0
task = "random+behavior_cloning_states+reward_conditioned_states"
context = 5
n_layer = 2
n_ff = 256
dropout = 0.1
ema = 0.998
dtype = "bfloat16"
learning_rate = 1e-3
max_iters = 4000
eval_interval = 2000
eval_sequences = 500
eval_tasks = "behavior_cloning_states,reward_conditioned_states"
keep_best = "none"
