"""A process ends with everything said and written, and without the last collection of garbage."""

import os
import subprocess
import sys

ENDING = """
import atexit, sys, threading, time
from cillab.core.leaving import leave

class Kept:
    def __del__(self):
        print("collected")

kept = [Kept()]
kept.append(kept)
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
print("answer", end=" ")
sys.stderr.write("complaint")
leave(3)
"""


def test_threads_exit_functions_and_streams_come_first_and_nothing_is_collected() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "answer thread\nat exit\n", "complaint")


def test_a_reader_that_has_gone_is_no_success() -> None:
    code = "from cillab.core.leaving import leave; print('x', end=''); import os; os.close(1); leave(0)"
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    ended = subprocess.run([sys.executable, "-c", code], env=buffered, capture_output=True, check=False)
    assert ended.returncode == 1
