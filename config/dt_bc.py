"""Decision-GPT on DoorKey, behaviour cloning: a causal model that predicts every action from what came before.

    python train.py config/dt_bc.py && python evaluate.py --out_dir=out/dt_bc

About TODO-numbers minutes on one core. Expect a test loss near TODO-numbers on its own task,
where the exact limit is 1.09.
"""

out_dir = "out/dt_bc"
dataset = "doorkey"
model = "dt"
task = "dt_bc"
best_tasks = "behavior_cloning"
