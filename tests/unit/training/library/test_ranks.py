"""A process that ends with its work done must end with 0."""

import os
import subprocess
import sys
import textwrap

import pytest

ENDS = """
import atexit, pathlib, sys, time
from torch import distributed
from sagemaker_byoc.training.library.ranks import Ranks

def names():
    threads = pathlib.Path("/proc/self/task").glob("*/comm")
    return [file.read_text().strip() for file in threads]

def show():  # runs last of the handlers, before the interpreter is taken down
    print(*names())

atexit.register(show)
distributed.init_process_group("gloo")
ranks = Ranks()
ranks.wait()
deadline = time.monotonic() + 30
while names().count("pt_gloo_runloop") < 4 and time.monotonic() < deadline:
    time.sleep(0.01)  # a thread takes its name once it runs
show()
if sys.argv[1] == "destroyed":
    distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "left"), [("destroyed", 0), ("left alone", 2)])
def test_no_thread_of_the_groups_outlives_the_program(how, left):
    """What is left belongs to the group of the program's own, which is not ours to end."""
    environ = dict(os.environ, RANK="0", WORLD_SIZE="1")
    environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    command = [sys.executable, "-c", textwrap.dedent(ENDS), how]
    done = subprocess.run(
        command, env=environ, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    running, ending = done.stdout.splitlines()
    assert running.count("pt_gloo_runloop") == 4  # two for each group
    assert ending.count("pt_gloo_runloop") == left
