#!/usr/bin/env bash
# Other people's data: episodes of mixed quality, cloned and asked for returns. Makes the data with
# make_locomotion.py where they are not there yet, and results/locomotion.json.
#
#   bash repro/locomotion.sh                # Hopper-v5, 3 seeds
#   WORLD=CartPole-v1 NAME=cartpole MAKE="--alive=0 --noise=2 --steps=40000 --record=40000" \
#     TARGETS=100,300,500 SEEDS=0 ROWS="one_short bc" bash repro/locomotion.sh
#   WORLD=HalfCheetah-v5 NAME=halfcheetah MAKE="--alive=0 --noise=0.03 --step_size=0.02 --steps=500000" \
#     TARGETS=500,1500,2500 SEEDS=0 ROWS="one_short bc" bash repro/locomotion.sh
#   LIST=1 bash repro/locomotion.sh         # print the lines, run nothing
#   SMOKE=1 bash repro/locomotion.sh        # everything tiny, one seed, into out/smoke
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

WORLD=${WORLD:-Hopper-v5} NAME=${NAME:-hopper} SEEDS=${SEEDS:-0 1 2}
TARGETS=${TARGETS:-1000,2000,3000} # returns to ask for
TENTH=${TENTH:-74}                 # a tenth of the training episodes
if [ -n "$TINY" ]; then TENTH=4; fi
STUDY=locomotion_$NAME FOLDER=out${TINY:+/smoke}/locomotion_data
DATA=$FOLDER/$NAME
export MINARI_DATASETS_PATH=${MINARI_DATASETS_PATH:-$PWD/out${TINY:+/smoke}/minari}

if [ "${LIST:-0}" = 0 ] && [ ! -f "${DATA}_films.npz" ]; then
  few=${TINY:+--steps=2000 --record=2000}
  # shellcheck disable=SC2086  # these are several words
  python repro/make_locomotion.py --env="$WORLD" --name="$NAME" --out="$FOLDER" ${MAKE:-} $few
  rm -f "${DATA}_best.npz" "$DATA.npz" # of a script that was killed
  python importing.py --source="minari:$NAME/replay-v0" --best=0.1 --out="${DATA}_best.npz"
  python importing.py --source="minari:$NAME/replay-v0" --out="$DATA.npz"
  python repro/films.py --source="$DATA.npz" --out="${DATA}_films.npz"
fi

WHOLE="--dataset=$DATA.npz"
EVERY="config/locomotion.py --env=$WORLD --rollouts=100 --sequences=500"
BC="--task=behavior_cloning_states --modes=bc_states"
DT="--model_type=dt --returns=all --embedding=norm --positions=learned"
ASK="--target_return=$TARGETS --modes"
for seed in $(seeds); do
  run one $WHOLE --context=3 --max_iters=6000 --n_ff=512 --learning_rate=2e-3 --state_weight=0.05 \
    $ASK=bc_states,rc_states
  run one_short $WHOLE $ASK=bc_states,rc_states
  run one_10 $WHOLE --context=10 --batch_size=64 --max_iters=8000 $ASK=bc_states,rc_states
  run bc $WHOLE $BC
  run bc_best --dataset="${DATA}_best.npz" $BC
  run rc $WHOLE --task=reward_conditioned_states $ASK=rc_states
  run dt $WHOLE $DT --task=dt_rc_states --eval_tasks=dt_rc_states $ASK=rc_all_states
  run dt_actions $WHOLE $DT --task=dt_rc --eval_tasks=dt_rc $ASK=rc_all
  run nn $WHOLE --model_type=nn --n_embd=512 $ASK=bc_states,rc_states \
    --task=behavior_cloning_states+reward_conditioned_states
done
# a tenth of the episodes has actions: alone, and beside the others, which are films
for seed in $(seeds); do
  run tenth $WHOLE --num_trajectories="$TENTH" $ASK=bc_states,rc_states
  run films --dataset="${DATA}_films.npz" $ASK=bc_states,rc_states
done

run_all
if [ "${LIST:-0}" = 1 ]; then exit 0; fi
python repro/locomotion.py --results="$RESULTS" --data="$FOLDER" || failed=1
exit "$failed"
