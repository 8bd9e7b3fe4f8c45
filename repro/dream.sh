#!/usr/bin/env bash
# Dreams: small models make up 50,000 trajectories from N demonstrations, and one model is trained
# on those alone. Adds the row `dream` to the heatmap of minigrid.sh.
#
#   bash repro/dream.sh                     # 500 trajectories, 6 seeds: 20 minutes on 2 cores
#   N=50 bash repro/dream.sh                # from 50, or 1000
#   LARGE=1 bash repro/dream.sh             # the row dream_large: the small models of six seeds averaged,
#                                           # 200,000 dreams, a larger student
#   DREAMS=5000 SEEDS=0 bash repro/dream.sh # so many dreams, in results/dream_500.jsonl
#   LIST=1 bash repro/dream.sh              # print the lines, run nothing
#   SMOKE=1 bash repro/dream.sh             # everything tiny, one seed, into out/smoke
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
ROWS= # one row is all there is

N=${N:-500} SEEDS=${SEEDS:-0 1 2 3 4 5}
ROW=dream WHERE=minigrid_$N STUDENT=
if [ -n "${DREAMS:-}" ] && [ "${LARGE:-0}" = 1 ]; then echo "LARGE=1 says how many DREAMS: give one of the two" >&2; exit 1; fi
if [ -n "${DREAMS:-}" ]; then
  ROW=dream_$DREAMS WHERE=dream_$N
elif [ "${LARGE:-0}" = 1 ]; then
  ROW=dream_large DREAMS=200000 STUDENT="--n_layer=4 --max_iters=16000 --eval_interval=2000"
fi
DREAMS=${DREAMS:-50000}
if [ -n "$TINY" ]; then DREAMS=200; fi
# longer and with more care than the heatmap's: all that is dreamt is theirs
POLICY="--norm=post --learning_rate=1e-3 --max_iters=1500" RETURNS=
DYNAMICS="--norm=post --learning_rate=1e-3 --max_iters=1200"
if [ "$N" = 50 ]; then # they are soon known by heart: strong weight decay, and more steps for that
  POLICY="$POLICY --learning_rate=2e-3 --weight_decay=3"
  DYNAMICS="--norm=post --learning_rate=2e-3 --weight_decay=2 --max_iters=4000"
  RETURNS="--dropout=0.2 --max_iters=4000"
fi
dreamers() { # the seeds of the small models; of 50, each has learnt something else
  if [ "$ROW" = dream_large ] || [ "$N" = 50 ]; then echo 0 1 2 3 4 5; else echo "$seed"; fi
}
DREAM_RUNS=$RUNS/dream_$N
student() { run "$ROW" config/minigrid_dream.py $STUDENT --dreams="$DREAM_RUNS/${ROW}_s$seed.npz"; }

# those seeds whose last line is still to be made
STUDY=$WHERE EVERY="--num_trajectories=$N"
waking=$SEEDS SEEDS=
if [ "${GPU:-0}" = 1 ]; then SEEDS=$waking waking=; fi # run.py sees to it
for seed in $waking; do
  student
  if [ "${LIST:-0}" = 1 ] || ! sh -c "${first%$'\n'} --ask"; then SEEDS="$SEEDS $seed"; fi
  first=
done

# 1. the small models
STUDY=dream_$N EVERY="--num_trajectories=$N --checkpoint"
wanted=$SEEDS SEEDS=$(for seed in $SEEDS; do dreamers; done | xargs -n 1 | sort -nu | xargs)
for seed in $(seeds); do
  COMPILE= run policy config/minigrid_bc.py $POLICY
  COMPILE= run dynamics config/minigrid_forward.py $DYNAMICS
  COMPILE= run returns config/dream_returns.py --tasks=return_backup $RETURNS
done
run_all
if [ "$failed" = 1 ]; then exit 1; fi # nothing is dreamt by a model that is not whole
SEEDS=$wanted

# 2. the dreams, unless they are there, and newer than the small models
for seed in $SEEDS; do
  policies= dynamics= returns= out=$DREAM_RUNS/${ROW}_s$seed.npz
  for one in $(dreamers); do
    policies=$policies,$DREAM_RUNS/policy_s$one
    dynamics=$dynamics,$DREAM_RUNS/dynamics_s$one
    returns=$returns,$DREAM_RUNS/returns_s$one
  done
  models=$policies$dynamics$returns
  line "test -f $out && test -z \"\$(find ${models//,/ } -name best.pt -newer $out)\" || rm -f $out;" \
    "test -f $out ||" \
    "python dream.py --policy=${policies#,} --dynamics=${dynamics#,} --returns=${returns#,}" \
    "--n=$DREAMS --seed=$seed --out=$out"
done
run_all

# 3. the model that is trained on them
STUDY=$WHERE EVERY="--num_trajectories=$N"
for seed in $(seeds); do
  student
done
run_all
if [ "$WHERE" = "minigrid_$N" ]; then draw "$STUDY"; fi
exit "$failed"
