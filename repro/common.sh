# What the scripts of this folder share. Sourced, not run.
#
#   run ROW [config file] [settings]    notes down one line of $STUDY for $seed; nothing runs yet
#   for seed in $(seeds)                each of $SEEDS; with GPU=1 {seed}, which stands for all of them
#   line WORDS                          notes down any other command
#   run_all                             runs the lines, JOBS at a time; those that finetune come last
#   ensemble                            adds the finetuned models of all seeds as one (ensemble.py)
#   demonstrator                        adds what the maze's demonstrator earns (demonstrator.py)
#   draw STUDY                          tables and figures of what is there (figures.py)
#
# A line may have settings of train.py and of run.py. $EVERY is added to all of them.
# GPU=1: train all seeds of a line at once, on a GPU (train_seeds.py); COMPILE=1: with torch.compile,
# which takes half a minute, and then half the time.
# ROWS="random nn_bc": only these rows. LIST=1: print the lines, run nothing.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -x .venv/bin/python ]; then PATH="$PWD/.venv/bin:$PATH"; fi
export OMP_NUM_THREADS=1
JOBS=${JOBS:-2} ROWS=${ROWS:-} EVERY=
case $JOBS in
  *[!0-9]* | 0*) echo "JOBS=$JOBS is not a whole number of at least 1" >&2; exit 1 ;;
esac
RESULTS=repro/results RUNS=out/runs ASSETS=assets TINY=
if [ "${SMOKE:-0}" = 1 ]; then
  RESULTS=out/smoke/results RUNS=out/smoke/runs ASSETS=out/smoke/assets
  SEEDS=${SEEDS:-0} CONTEXTS=${CONTEXTS:-5}
  TINY="--max_iters=1 --eval_interval=1 --eval_sequences=20 --batch_size=32 --n_embd=16 --n_head=2"
  TINY="$TINY --n_layer=1 --n_ff=16 --sequences=40 --rollouts=4 --results=$RESULTS --runs=$RUNS"
fi

commas() { echo $SEEDS | tr " " ,; } # 0,1,2

seeds() { if [ "${GPU:-0}" = 1 ]; then echo "{seed}"; else echo "$SEEDS"; fi; }

known=" " first= second= failed=0
run() {
  local row=$1 name=${1%%-*} line
  name=${name%_T[0-9]*}
  shift
  case "$known" in *" $name "*) ;; *) known="$known$name " ;; esac
  if [ -n "$ROWS" ]; then
    case " $ROWS " in *" $name "*) ;; *) return 0 ;; esac
  fi
  if [ "$seed" = "{seed}" ]; then set -- "$@" --device=cuda ${COMPILE:+--compile} --seeds="$(commas)"; fi
  # shellcheck disable=SC2086  # $EVERY and $TINY are several words
  line=$(printf '%q ' python repro/run.py --study="$STUDY" --row="$row" "$@" $EVERY --seed="$seed" $TINY)
  line=$(sed 's/\\\([,{}]\)/\1/g' <<< "$line") # which need no backslash
  case "$line" in
    *--init_from=finetune:*) second="$second${line% }"$'\n' ;;
    *) first="$first${line% }"$'\n' ;;
  esac
}

line() { first="$first$*"$'\n'; }

run_all() {
  local word lines
  for word in $ROWS; do
    case "$known" in *" $word "*) ;; *) echo "there is no row '$word'; rows are$known" >&2; exit 1 ;; esac
  done
  if [ "${LIST:-0}" = 1 ]; then
    printf '%s' "$first$second"
    first= second=
    return 0
  fi
  for lines in "$first" "$second"; do # a line that fails does not stop the others
    if [ -n "$lines" ]; then
      printf '%s' "$lines" | python repro/lines.py --jobs="$JOBS" || failed=1
    fi
  done
  first= second=
}

ensemble() {
  if [ "${LIST:-0}" = 1 ]; then return 0; fi
  if [ "$(wc -w <<< "$SEEDS")" -gt 1 ]; then
    python repro/ensemble.py --study="$STUDY" --results="$RESULTS" --runs="$RUNS" || failed=1
  fi
}

demonstrator() {
  if [ "${LIST:-0}" = 1 ]; then return 0; fi
  python repro/demonstrator.py --study="$STUDY" --results="$RESULTS" --seeds="$(commas)" \
    ${TINY:+--episodes=16} || failed=1
}

draw() {
  if [ "${LIST:-0}" = 1 ]; then return 0; fi
  python repro/figures.py --study="$1" --results="$RESULTS" --assets="$ASSETS" --parallel="$JOBS" || failed=1
}
