"""Decision-GPT on DoorKey, behaviour cloning: a causal model that predicts every action from what came before.

    python train.py config/dt_bc.py && python evaluate.py --out_dir=out/dt_bc

Time and expected numbers: not measured yet; the exact limit is 1.09.
"""

out_dir = "out/dt_bc"
dataset = "doorkey"
model = "dt"
task = "dt_bc"
best_tasks = "behavior_cloning"
