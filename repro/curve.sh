#!/usr/bin/env bash
# The learning curve of random masking on DoorKey: 50, 500, 1,000, 10,000 and unlimited trajectories.
# Then assets/minigrid_curve.png.
#
#   bash repro/curve.sh                     # 3 seeds: 11 minutes on 2 cores
#   SMOKE=1 bash repro/curve.sh             # tiny, one seed, into out/smoke: under a minute
#
# What repro/minigrid.sh has made is not made again. Killed, the same command goes on where it stopped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

SEEDS=${SEEDS:-0 1 2}
RANDOM_MASKS="config/minigrid_random.py --eval_interval=500 --dtype=bfloat16"
# 50 trajectories: as in minigrid.sh
SMALL="--n_embd=64 --n_layer=2 --n_head=4 --dropout=0.4 --weight_decay=0.5 --norm=post --learning_rate=1e-3"

for seed in $(seeds); do
  STUDY=minigrid_50 run random $RANDOM_MASKS --num_trajectories=50 --max_iters=2000 $SMALL
  STUDY=minigrid_500 run random $RANDOM_MASKS --num_trajectories=500 --max_iters=2500
  STUDY=minigrid_1000 run random $RANDOM_MASKS --num_trajectories=1000 --max_iters=2500
  STUDY=minigrid_10000 run random $RANDOM_MASKS --num_trajectories=10000 --max_iters=2500
  STUDY=minigrid_unlimited run random $RANDOM_MASKS --fresh=True --max_iters=2500
done

run_all
draw minigrid_curve
exit "$failed"
