"""Run command lines, a few at a time. Those that run Python need no imports of their own.

    LIST=1 bash repro/minigrid.sh | python repro/lines.py --jobs=2

It takes two seconds to import torch and the rest, and a line needs it twice, to train and to
measure: a seventh of the heatmap's time. So they are forks of this process, which has it.
A line that fails does not stop the others; the exit code is then 1. Before this: run.py.
"""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import measure  # noqa: F401  and with it all that a line imports
import run

# ---- settings ------------------------------------------------------------------------------------
jobs = 2  # lines at a time
# --------------------------------------------------------------------------------------------------


def main():
    configurator.check(globals(), {"jobs": (1, 10**4)})
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this at once, and its script
    waiting, running, failed = sys.stdin.read().splitlines(), 0, False
    while waiting or running:
        if waiting and running < jobs:
            begin(waiting.pop(0))
            running += 1
        else:
            running, failed = running - 1, os.wait()[1] != 0 or failed
    sys.exit(failed)


def begin(line):
    words = shlex.split(line)
    if words[0] == "python" and words[1].endswith(".py"):
        run.start(words[1:])
    else:
        subprocess.Popen(["sh", "-c", line], stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
