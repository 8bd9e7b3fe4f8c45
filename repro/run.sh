# The common part of minigrid.sh and maze2d.sh: run the job lines of one study, JOBS at a time, a phase after the other.
# Sourced, not run. ROWS="random nn_bc" makes only some rows. Sets PRESET from PAPER and SMOKE, and `failed` to 1 if a run did not succeed.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -x .venv/bin/python ]; then PATH="$PWD/.venv/bin:$PATH"; fi
export OMP_NUM_THREADS=1
JOBS=${JOBS:-2}
PRESET=default
if [ "${PAPER:-0}" = 1 ]; then PRESET=paper; fi
if [ "${SMOKE:-0}" = 1 ]; then PRESET=smoke; fi
failed=0

run_lines() { # argument: command lines. Each is one argument of `sh -c`; one that fails does not stop the others
  printf '%s\n' "$1" | tr '\n' '\0' | xargs -0 -n 1 -P "$JOBS" sh -c || failed=1
}

run_jobs() { # arguments: those of jobs.py
  for phase in 0 1; do
    lines=$(python repro/jobs.py "$@" --rows="${ROWS:-}" --phase="$phase")
    run_lines "$lines"
  done
}
