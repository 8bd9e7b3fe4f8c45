"""Forward dynamics alone: the state after a known state and action. What remains is the door, which is not seen.

    python train.py config/minigrid_forward.py && python evaluate.py --out_dir=out/minigrid_forward

About TODO-numbers minutes on one core. Expect a test loss near TODO-numbers on its own task,
where the exact limit is 0.
"""

out_dir = "out/minigrid_forward"
dataset = "doorkey"
task = "forward_dynamics"
