#!/usr/bin/env bash
# One set of weights that drives: random masks and the two questions of control, never finetuned. Adds
# the row `unimask_one` to the table of maze2d.sh.
#
#   bash repro/one.sh                       # medium maze, 3 seeds: 30 minutes a run on one core
#   MAZE=umaze SEEDS=0 CONTEXTS=5 bash repro/one.sh
#   LIST=1 bash repro/one.sh                # print the lines, run nothing
#   SMOKE=1 bash repro/one.sh               # everything tiny, one seed, T=5, into out/smoke
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

MAZE=${MAZE:-medium} SEEDS=${SEEDS:-0 1 2} CONTEXTS=${CONTEXTS:-5 10}
STUDY=maze2d_$MAZE
EVERY="--dataset=maze2d-$MAZE"
if [ -n "$TINY" ]; then TINY="$TINY --eval_rollouts=4"; fi

for seed in $SEEDS; do
  for T in $CONTEXTS; do
    STEPS=
    if [ "$T" = 10 ]; then STEPS="--max_iters=24000"; fi # a step takes half as long again
    run "unimask_one_T$T" config/maze2d_one.py --context="$T" $STEPS
  done
done

run_all
draw "$STUDY"
exit "$failed"
