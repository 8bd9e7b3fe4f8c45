#!/usr/bin/env bash
# Which masks should one set of weights be trained on? The same model and steps, other masks, in both
# worlds. Then results/masks.md and assets/masks.png.
#
#   bash repro/masks.sh                     # DoorKey and Maze2D, 3 seeds
#   WORLDS=doorkey SEEDS=0 bash repro/masks.sh
#   LIST=1 bash repro/masks.sh              # print the lines, run nothing
#   SMOKE=1 bash repro/masks.sh             # everything tiny, one seed, into out/smoke
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

SEEDS=${SEEDS:-0 1 2} WORLDS=${WORLDS:-doorkey maze2d}
if [ -n "$TINY" ]; then TINY="$TINY --eval_rollouts=4"; fi

masks() { # a config file, the questions of control, and settings: a row for each kind of masks
  run random "$1" --task=random "${@:3}"
  run random_15 "$1" --task=random_15 "${@:3}"
  run random_autoregressive "$1" --task=random_autoregressive "${@:3}"
  run span "$1" --task=span "${@:3}"
  run all "$1" --task=all "${@:3}"
  run random_all "$1" --task=random+all "${@:3}"
  run random_all_random_control "$1" --task=random+all+random_control "${@:3}"
  run random_and_control "$1" --task="random+$2" "${@:3}"
  run random_and_random_control "$1" --task=random+random_control "${@:3}"
}

for seed in $(seeds); do
  for world in $WORLDS; do
    STUDY=masks_$world
    case "$world" in
      doorkey) masks config/minigrid_random.py behavior_cloning+reward_conditioned --max_iters=2500 --dtype=bfloat16 ;;
      maze2d) masks config/maze2d_random.py behavior_cloning_states+reward_conditioned_states ;;
      *) echo "there is no world '$world': doorkey, maze2d" >&2; exit 1 ;;
    esac
  done
done

run_all
case "$WORLDS" in
  *doorkey*) line "python repro/generality.py${ROWS:+ --rows=${ROWS// /,}} --results=$RESULTS --runs=$RUNS" ;;
esac
run_all
draw masks
exit "$failed"
