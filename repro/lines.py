"""Run command lines, a few at a time. Those that run Python need no imports of their own.

    LIST=1 bash repro/minigrid.sh | python repro/lines.py --jobs=2

It takes two seconds to import torch and the rest, and a line needs it twice, to train and to
measure: a seventh of the heatmap's time. So they are forks of this process, which has it.
A line that fails does not stop the others; the exit code is then 1. Before this: run.py.
"""

import os
import re
import signal
import subprocess
import sys
from multiprocessing import connection
from pathlib import Path

if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this at once, and its script, too
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import measure  # noqa: F401  and with it all that a line imports
import run

# ---- settings ------------------------------------------------------------------------------------
jobs = 2  # lines at a time
# --------------------------------------------------------------------------------------------------


# A script and arguments that a shell would not change.
PYTHON = re.compile(r"python [\w/.-]+\.py( [\w/.,:=+@%{}-]+)*")


def main():
    configurator.check(globals(), {"jobs": (1, 10**4)})
    waiting, running, failed = sys.stdin.read().splitlines(), [], False
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(run.FORK.Process(target=begin, args=(waiting.pop(0),)))
            running[-1].start()
        connection.wait([line.sentinel for line in running])
        ended = [line for line in running if not line.is_alive()]
        running = [line for line in running if line not in ended]
        failed = failed or any(line.exitcode for line in ended)
    sys.exit(failed)


def begin(line):
    """In a fork: run a line."""
    if PYTHON.fullmatch(line):
        run.as_main(line.split()[1:])
    else:
        sys.exit(subprocess.call(["sh", "-c", line]))


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
