#!/usr/bin/env bash
# Dreams: three small models make up 50,000 trajectories from N demonstrations, and one model is
# trained on those alone. Adds the row `dream` to the heatmap of minigrid.sh.
#
#   bash repro/dream.sh                     # 500 trajectories, 6 seeds: 40 minutes on 2 cores
#   N=50 bash repro/dream.sh                # from 50, or 1000
#   LIST=1 bash repro/dream.sh              # print the lines, run nothing
#   SMOKE=1 bash repro/dream.sh             # everything tiny, one seed, into out/smoke
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

N=${N:-500} SEEDS=${SEEDS:-0 1 2 3 4 5}
DREAMS=50000
if [ -n "$TINY" ]; then DREAMS=200; fi
FEW=
if [ "$N" = 50 ]; then FEW="--steps_times=0.4"; fi # a policy knows 50 by heart soon

waking=$SEEDS SEEDS=
for seed in $waking; do # those whose last line is still to be made
  if [ "${LIST:-0}" = 1 ] || ! python repro/run.py --ask --study="minigrid_$N" --row=dream config/minigrid_dream.py \
    --num_trajectories="$N" --dreams="$RUNS/dream_$N/dreams_s$seed.npz" --seed="$seed" $TINY; then
    SEEDS="$SEEDS $seed"
  fi
done

# 1. the small models
STUDY=dream_$N EVERY="--num_trajectories=$N --checkpoint"
for seed in $SEEDS; do
  run policy config/minigrid_bc.py $FEW
  run dynamics config/minigrid_forward.py
  run returns config/dream_returns.py --tasks=return_to_go
done
run_all

# 2. the dreams
for seed in $SEEDS; do
  at=$RUNS/dream_$N
  line "test -e $at/dreams_s$seed.npz || python dream.py --policy=$at/policy_s$seed" \
    "--dynamics=$at/dynamics_s$seed --returns=$at/returns_s$seed --n=$DREAMS --seed=$seed" \
    "--out=$at/dreams_s$seed.npz"
done
run_all

# 3. the model that is trained on them
STUDY=minigrid_$N EVERY="--num_trajectories=$N"
for seed in $SEEDS; do
  run dream config/minigrid_dream.py --dreams="$RUNS/dream_$N/dreams_s$seed.npz"
done
run_all
draw "$STUDY"
exit "$failed"
