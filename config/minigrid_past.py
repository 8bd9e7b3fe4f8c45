"""Past inference alone: the states and actions that led to what is seen.

    python train.py config/minigrid_past.py && python evaluate.py --out_dir=out/minigrid_past

About TODO-numbers minutes on one core. Expect a test loss near TODO-numbers on its own task,
where the exact limit is 4.33.
"""

out_dir = "out/minigrid_past"
dataset = "doorkey"
task = "past"
