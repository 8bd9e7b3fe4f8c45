#!/usr/bin/env bash
# The DoorKey heatmap (Uni[MASK], figure 7): 15 rows x 8 tasks, 22 runs a seed. Then the tables and
# assets/minigrid_heatmap.png.
#
#   bash repro/minigrid.sh                  # 500 trajectories, 6 seeds: 28 to 30 minutes on 2 cores
#   N=50 SEEDS="0 1 2" bash repro/minigrid.sh      # 50 trajectories: 17 minutes; N=1000: 23 minutes
#   ROWS="random nn_bc" bash repro/minigrid.sh     # only some rows
#   LIST=1 bash repro/minigrid.sh           # print the lines, run nothing
#   SMOKE=1 bash repro/minigrid.sh          # everything tiny, one seed, into out/smoke: seconds
#   PAPER=1 bash repro/minigrid.sh          # the published recipe (minigrid_paper.sh): 2.6 core-hours a seed
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
if [ "${PAPER:-0}" = 1 ]; then exec bash "$here/minigrid_paper.sh"; fi
source "$here/common.sh"

N=${N:-500} SEEDS=${SEEDS:-0 1 2 3 4 5}
STUDY=minigrid_$N
EVERY="--num_trajectories=$N"
FEW= SLOW=
few() { if [ "$N" = 50 ]; then echo "--max_iters=$1" "${@:2}"; fi; } # with 50 trajectories alone
if [ "$N" = 50 ]; then # they are soon known by heart: small models, much dropout, small steps, fewer of them
  FEW="--n_embd=64 --n_layer=2 --n_head=4 --dropout=0.4 --weight_decay=0.5"
  SLOW="--norm=post --learning_rate=1e-3"
fi

# One model more for each column. It starts from `random` of the same seed, and has its network.
finetune() { # task, and its own settings
  run "random+finetune-$1" config/minigrid_random.py $SLOW --dtype=bfloat16 --task="$1" --eval_tasks="$1" \
    --tasks="$1" --eval_sequences=4000 --eval_interval=50 --warmup_iters=20 \
    --init_from="finetune:$RUNS/$STUDY/random_s$seed" "${@:2}"
}
# What predicts one action overfits first: more dropout there.
CONTROL="--learning_rate=5e-4 --dropout=0.2 --weight_decay=0.1 --max_iters=300 $FEW $(few 120)"
INFERENCE="--learning_rate=3e-4 --max_iters=$((N < 1000 ? 200 : 400)) $FEW" # more data, more to learn
INFERENCE="$INFERENCE $(few 160)"
DYNAMICS="--learning_rate=1e-3 --max_iters=400 $FEW $(few 600 --dropout=0.1)" # 50 have taught few moves

for seed in $(seeds); do
  # one task each
  run behavior_cloning config/minigrid_bc.py $SLOW $(few 600)
  run reward_conditioned config/minigrid_rc.py $SLOW $(few 800)
  run goal_conditioned config/minigrid_goal.py $SLOW $(few 800)
  run waypoint config/minigrid_waypoint.py $SLOW $(few 800)
  run past config/minigrid_past.py $SLOW $(few 800)
  run future config/minigrid_future.py $SLOW $(few 600)
  run forward_dynamics config/minigrid_forward.py $SLOW $(few 480)
  run backward_dynamics config/minigrid_backward.py $SLOW $(few 800)
  # all eight, and random masks
  run all config/minigrid_all.py $FEW $SLOW $(few 1600)
  run random config/minigrid_random.py --max_iters=2500 --eval_interval=500 --dtype=bfloat16 $FEW $SLOW $(few 2000)
  # feed-forward nets and Decision-GPT
  run nn_bc config/nn_bc.py $(few 400)
  run nn_random config/nn_random.py $(few 1200)
  run dt_bc config/dt_bc.py $SLOW $(few 240)
  run dt_rc config/dt_rc.py $SLOW $(few 240)
  # random masks, then a task
  finetune behavior_cloning $CONTROL --learning_rate=1e-3
  finetune reward_conditioned $CONTROL
  finetune goal_conditioned $CONTROL
  finetune waypoint $CONTROL
  finetune past $INFERENCE
  finetune future --dropout=0.2 $INFERENCE
  finetune forward_dynamics $DYNAMICS
  finetune backward_dynamics $DYNAMICS
done

run_all
ensemble
draw "$STUDY"
exit "$failed"
