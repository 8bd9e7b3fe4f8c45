#!/usr/bin/env bash
# One set of weights, never finetuned. DoorKey: random masks, random control and the eight tasks, the
# row `one` of minigrid.sh's heatmap. Maze2D: random masks and the two questions of control, and random
# masks alone for longer, the rows `unimask_one` and `unimask_random_long` of maze2d.sh's table.
#
#   bash repro/one.sh                       # DoorKey, 6 seeds; the medium maze, 3 seeds
#   WORLDS=doorkey SEEDS=0 bash repro/one.sh
#   WORLDS=maze2d MAZE=umaze SEEDS=0 CONTEXTS=5 bash repro/one.sh
#   LIST=1 bash repro/one.sh                # print the lines, run nothing
#   SMOKE=1 bash repro/one.sh               # everything tiny, one seed, T=5, into out/smoke
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

WORLDS=${WORLDS:-doorkey maze2d} N=${N:-500} MAZE=${MAZE:-medium} CONTEXTS=${CONTEXTS:-5 10}
GIVEN=${SEEDS:-} studies=

for world in $WORLDS; do
  case "$world" in
    doorkey)
      STUDY=minigrid_$N EVERY="--num_trajectories=$N"
      SEEDS=${GIVEN:-0 1 2 3 4 5}
      for seed in $(seeds); do
        run one config/minigrid_one.py
      done ;;
    maze2d)
      STUDY=maze2d_$MAZE EVERY="--dataset=maze2d-$MAZE ${TINY:+--eval_rollouts=4}"
      SEEDS=${GIVEN:-0 1 2}
      for seed in $(seeds); do
        for T in $CONTEXTS; do
          # at T=10 a step takes half as long again, and less is learnt before it is learnt by heart
          STEPS= LONG="--batch_size=200 --learning_rate=3e-3"
          if [ "$T" = 10 ]; then STEPS="--max_iters=24000" LONG=; fi
          run "unimask_one_T$T" config/maze2d_one.py --context="$T" $STEPS
          run "unimask_random_long_T$T" config/maze2d_random.py --context="$T" --max_iters=24000 --eval_interval=4000 $LONG
        done
      done ;;
    *) echo "there is no world '$world': doorkey, maze2d" >&2; exit 1 ;;
  esac
  studies="$studies $STUDY"
done

run_all
for STUDY in $studies; do draw "$STUDY"; done
exit "$failed"
