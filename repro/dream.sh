#!/usr/bin/env bash
# Dreams: small models make up 50,000 trajectories from N demonstrations, and one model is trained
# on those alone. Adds the row `dream` to the heatmap of minigrid.sh.
#
#   bash repro/dream.sh                     # 500 trajectories, 6 seeds: 40 minutes on 2 cores
#   N=50 bash repro/dream.sh                # from 50, or 1000
#   LARGE=1 bash repro/dream.sh             # the row dream_large: the small models of six seeds averaged,
#                                           # 200,000 dreams, a larger student
#   LIST=1 bash repro/dream.sh              # print the lines, run nothing
#   SMOKE=1 bash repro/dream.sh             # everything tiny, one seed, into out/smoke
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
ROWS= # one row is all there is

N=${N:-500} SEEDS=${SEEDS:-0 1 2 3 4 5}
ROW=dream DREAMS=50000 STUDENT=
if [ "${LARGE:-0}" = 1 ]; then
  ROW=dream_large DREAMS=200000 STUDENT="--n_layer=4 --max_iters=16000 --eval_interval=2000"
fi
dreamers() { if [ "$ROW" = dream ]; then echo "$seed"; else echo 0 1 2 3 4 5; fi; } # their seeds
if [ -n "$TINY" ]; then DREAMS=200; fi
FEW= RETURNS=
if [ "$N" = 50 ]; then # a policy knows 50 by heart soon; to add up takes longer to learn
  FEW="--steps_times=0.4" RETURNS="--max_iters=4000 --dropout=0.2"
fi
DREAM_RUNS=$RUNS/dream_$N
student() { run "$ROW" config/minigrid_dream.py $STUDENT --dreams="$DREAM_RUNS/${ROW}_s$seed.npz"; }

# those seeds whose last line is still to be made
STUDY=minigrid_$N EVERY="--num_trajectories=$N"
waking=$SEEDS SEEDS=
for seed in $waking; do
  student
  if [ "${LIST:-0}" = 1 ] || ! sh -c "${first%$'\n'} --ask"; then SEEDS="$SEEDS $seed"; fi
  first=
done

# 1. the small models
STUDY=dream_$N EVERY="--num_trajectories=$N --checkpoint"
for seed in $(for seed in $SEEDS; do dreamers; done | xargs -n 1 | sort -nu); do
  run policy config/minigrid_bc.py $FEW
  run dynamics config/minigrid_forward.py
  run returns config/dream_returns.py --tasks=return_backup $RETURNS
done
run_all

# 2. the dreams, unless they are there, and newer than the small models
for seed in $SEEDS; do
  policies= dynamics= returns= out=$DREAM_RUNS/${ROW}_s$seed.npz
  for one in $(dreamers); do
    policies=$policies,$DREAM_RUNS/policy_s$one
    dynamics=$dynamics,$DREAM_RUNS/dynamics_s$one
    returns=$returns,$DREAM_RUNS/returns_s$one
  done
  line "test $out -nt $DREAM_RUNS/returns_s$one/best.pt || python dream.py --policy=${policies#,}" \
    "--dynamics=${dynamics#,} --returns=${returns#,} --n=$DREAMS --seed=$seed --out=$out"
done
run_all

# 3. the model that is trained on them
STUDY=minigrid_$N EVERY="--num_trajectories=$N"
for seed in $SEEDS; do
  student
done
run_all
draw "$STUDY"
exit "$failed"
