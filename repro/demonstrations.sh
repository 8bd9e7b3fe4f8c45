#!/usr/bin/env bash
# Ten times the demonstrations: 10,000 where the mazes' tables have 900, and 3,000. Cloning takes two
# and three times the steps, one set of weights as many as before. Further rows of results/maze2d_*.md.
#
#   MAZE=large SEEDS=0 bash repro/demonstrations.sh     # 25 minutes on 2 cores
#   LIST=1 bash repro/demonstrations.sh                 # print the lines, run nothing
#   SMOKE=1 bash repro/demonstrations.sh                # everything tiny, one seed, into out/smoke
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

MAZE=${MAZE:-large} SEEDS=${SEEDS:-0 1}
STUDY=maze2d_$MAZE
EVERY="--dataset=maze2d-$MAZE --context=5"
if [ -n "$TINY" ]; then TINY="$TINY --eval_rollouts=4"; fi

for seed in $(seeds); do
  run unimask_one_10000_T5 config/maze2d_one.py --num_trajectories=10000
  run unimask_bc_10000_T5 config/maze2d_bc.py --num_trajectories=10000 --max_iters=15000 --eval_interval=2500
  run unimask_bc_3000_T5 config/maze2d_bc.py --num_trajectories=3000 --max_iters=10000 --eval_interval=2500
done

run_all
demonstrator
draw "$STUDY"
exit "$failed"
