#!/usr/bin/env bash
# The DoorKey heatmap by the published recipe: hyperparameters of the paper's appendix and of the
# original's code, epochs turned into steps. Every setting is given, whatever train.py's defaults are.
# README.md, "The published recipe", says what is still different.
#
#   PAPER=1 SEEDS="0 1" bash repro/minigrid.sh
#   PRETRAINED=each PAPER=1 SEEDS="0 1" ROWS=random+finetune_each bash repro/minigrid.sh
#                                           # as published, all finetuned models start from random masks
#                                           # of seed 0, to be made first; these from their own seed's
#
# N, SEEDS, ROWS, JOBS, LIST and SMOKE as in minigrid.sh.
set -euo pipefail
export PAPER=1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

N=${N:-500} SEEDS=${SEEDS:-0 1 2 3 4 5} PRETRAINED=${PRETRAINED:-0}
STUDY=minigrid_${N}_paper
EVERY="--dataset=doorkey --num_trajectories=$N --context=10 --dropout=0.1 --keep_best=loss --by_turns=True
  --warmup_iters=0 --decay_lr=False --weight_decay=1e-4 --grad_clip=0.5 --ema=0 --layout=timestep
  --hidden=zero --fourier_features=0 --differences=False --tanh_actions=False --factor_hiding=0
  --returns=unchanged --fresh=False --action_weight=1 --head=mean"

# An epoch has N / batch steps, at least one. Half as many epochs with 1,000 trajectories, ten times
# as many with 50. An evaluation every ten epochs, at most LOOKS of them.
LOOKS=${LOOKS:-1000}
case "$N $LOOKS" in *[!0-9\ ]* | 0* | *\ 0*) echo "N=$N and LOOKS=$LOOKS must be at least 1" >&2; exit 1 ;; esac
epochs() { # epochs at 500 trajectories, batch size
  local epoch=$((N > $2 ? N / $2 : 1))
  local steps=$(($1 * 500 / N * epoch))
  echo "--batch_size=$2 --max_iters=$steps --eval_interval=$((steps > 10 * LOOKS * epoch ? steps / LOOKS : 10 * epoch))"
}
network() { # d, layers, heads, width of the feed-forward net
  echo "--n_embd=$1 --n_layer=$2 --n_head=$3 --n_ff=$4"
}
UNIMASK="--model_type=unimask --norm=post --embedding=relu --init_range=0.1 --positions=sinusoidal"
GPT="--model_type=dt --norm=pre --embedding=norm --init_range=0 --positions=learned"
NN="--model_type=nn --n_embd=128 --n_layer=3" # as wide as the feed-forward nets of the others
# What a checkpoint is chosen by: its own task; of several, all but the dynamics.
SIX=behavior_cloning,reward_conditioned,goal_conditioned,waypoint,past,future
one() { run "$1" $UNIMASK --task="$1" --eval_tasks="${EVAL:-$1}" --learning_rate=1e-4 "${@:2}"; }
finetune() { # with the network of `random`
  local row=random+finetune start=$PRETRAINED
  if [ "$start" = each ]; then row=random+finetune_each start=$seed; fi
  run "$row-$1" $UNIMASK --task="$1" --eval_tasks="$1" --tasks="$1" $(network 128 2 8 128) --state_weight=1 \
    --init_from="finetune:$RUNS/$STUDY/random_s$start" "${@:2}"
}

for seed in $(seeds); do
  one behavior_cloning $(epochs 1500 250) $(network 32 2 4 128) --state_weight=0.1
  one reward_conditioned $(epochs 1500 50) $(network 32 3 4 128) --state_weight=1
  one goal_conditioned $(epochs 3000 250) $(network 128 3 8 128) --state_weight=1
  one waypoint $(epochs 3000 250) $(network 128 3 8 128) --state_weight=1
  one past $(epochs 2000 250) $(network 32 4 4 128) --state_weight=0.5
  one future $(epochs 2000 250) $(network 128 2 4 32) --state_weight=0.5
  one forward_dynamics $(epochs 1500 250) $(network 128 3 8 128) --state_weight=1
  one backward_dynamics $(epochs 1500 50) $(network 128 3 8 128) --state_weight=0.5
  EVAL=$SIX one all $(epochs 10000 250) $(network 32 3 4 128) --state_weight=1
  EVAL=$SIX one random $(epochs 10000 100) $(network 128 2 8 128) --state_weight=1
  run nn_bc $NN --task=behavior_cloning --eval_tasks=behavior_cloning $(epochs 3000 100) \
    --learning_rate=1e-4 --state_weight=0.5
  run nn_random $NN --task=random --eval_tasks=$SIX $(epochs 10000 250) --learning_rate=1e-4 --state_weight=0.5
  for task in dt_bc dt_rc; do
    run $task $GPT --task=$task --eval_tasks=dt_bc,dt_rc --best_tasks=dt_bc,dt_rc $(epochs 1500 250) \
      $(network 32 3 8 128) --learning_rate=1e-4 --state_weight=1
  done
  finetune behavior_cloning $(epochs 10000 250) --learning_rate=5e-6
  finetune reward_conditioned $(epochs 500 50) --learning_rate=5e-6
  finetune goal_conditioned $(epochs 1500 250) --learning_rate=1e-5
  finetune waypoint $(epochs 1500 250) --learning_rate=1e-5
  finetune past $(epochs 500 250) --learning_rate=5e-6
  finetune future $(epochs 500 250) --learning_rate=5e-6
  finetune forward_dynamics $(epochs 10000 250) --learning_rate=1e-5
  finetune backward_dynamics $(epochs 1500 50) --learning_rate=1e-5
done

run_all
ensemble
draw "$STUDY"
exit "$failed"
