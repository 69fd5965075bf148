"""Several ranks on one host, by the real supervisor; over hosts: tests/multihost."""

from __future__ import annotations

import json
import os
import signal

import pytest
from tests.unit.training.supervisor.conftest import wait_until

from sagemaker_byoc.contract.training.runs import parse_line

pytestmark = pytest.mark.slow  # real processes

RANK = "import os, sys, time\nrank = int(os.environ['RANK'])\n"


def test_every_metric_line_of_eight_ranks(container):
    """Pieces of eight ranks' lines never mix; rank 0 has no prefix, each other has its own."""
    container.program("ranks_print_pieces.py")
    container.environ["BYOC_NPROC"] = "8"
    lines = container.run().out.splitlines()
    assert len(lines) == 8 * 500
    for rank in range(8):
        prefix = f"[rank {rank}] rank: {rank} " if rank else "rank: 0 "
        mine = [line for line in lines if line.startswith(prefix)]
        assert len(mine) == 500
        assert all(parse_line(line).keys() == {"loss", "accuracy"} for line in mine)


def test_failing_rank(container):
    """The rank's code is the container's, and the failure file says which rank it was."""
    container.text(
        f"{RANK}print('up', flush=True)\nif rank == 1: sys.exit('no vocabulary')\ntime.sleep(60)\n"
    )
    container.environ["BYOC_NPROC"] = "3"
    result = container.run()
    assert result.code == 1
    assert result.failure == "no vocabulary\n[algo-1 rank 1 exit 1]"


def test_the_word_of_a_rank_that_was_too_slow(container):
    """A rank that had raised before it was ended is the cause."""
    container.text(
        f"{RANK}import traceback\n"
        "if rank == 0: raise ConnectionResetError('Connection reset by peer')\n"
        "try: raise ValueError('the cause')\n"
        "except ValueError: traceback.print_exc()\n"
        "time.sleep(60)\n"
    )
    container.environ["BYOC_NPROC"] = "2"
    result = container.run()
    assert result.failure.startswith("ValueError: the cause\n[algo-1 rank 1 exit 1]")


def test_an_end_amid_a_collective(container):
    """Two ranks that have finished well end with 0, whatever gloo's threads still hold."""
    container.program("ends_in_a_collective.py")
    container.environ["BYOC_NPROC"] = "2"
    result = container.run()
    assert (result.code, result.failure) == (0, None), result.err
    assert result.out.count("finished") == 2


def test_stop(container):
    """Each rank gets SIGTERM once and has its time to end."""
    container.program("saves_on_sigterm.py")
    container.environ["BYOC_NPROC"] = "2"
    running = container.start()
    wait_until(lambda: running.out().count("ready\n") == 2, "both ranks")
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.result().code == 7


def test_recorded_error(container):
    """What torch's `record` wrote is the cause, even if nothing was printed."""
    record = {
        "message": {
            "message": "ValueError: deep inside",
            "extraInfo": {
                "py_callstack": "Traceback (most recent call last):\n"
                '  File "/x/train.py", line 3, in main\n    step()\nValueError: deep inside\n'
            },
        }
    }
    container.text(
        f"{RANK}open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w').write({json.dumps(record)!r})\n"
        "os._exit(9)\n"
    )
    container.environ["BYOC_NPROC"] = "1"
    result = container.run()
    assert result.code == 9
    assert result.failure.startswith("ValueError: deep inside\n[algo-1 rank 0 exit 9]")
    assert "/x/train.py:3 in main: step()" in result.failure


def test_hang_of_a_plain_program(container):
    """One plain process is watched too, if the job asks for it."""
    container.text("import time\ndef stuck(): time.sleep(60)\nprint('up')\nstuck()\n")
    container.environ["BYOC_HANG_SECONDS"] = "0.5"
    result = container.run()
    assert result.code == 134
    assert result.failure.startswith("hang: no progress for 0.5 s\n[algo-1 exit 134]")
    assert "in stuck" in result.failure


def test_progress_is_no_hang(container):
    """A program that renews its progress file may be silent."""
    container.text(
        "import os, pathlib, time\n"
        "for _ in range(9):\n"
        "    pathlib.Path(os.environ['BYOC_PROGRESS_FILE']).touch()\n"
        "    time.sleep(0.1)\n"
    )
    container.environ["BYOC_HANG_SECONDS"] = "0.5"
    assert container.run().code == 0


def test_nothing_is_left(container):
    """The supervisor's own small files are gone after the job."""
    temporary = container.folder / "tmp"
    temporary.mkdir()
    container.text("")
    container.environ |= {"BYOC_NPROC": "2", "TMPDIR": str(temporary)}
    assert container.run().code == 0
    assert not list(temporary.iterdir())


def test_unsupported_launcher(container):
    """A job for another launcher ends with a hint instead of training on every host alone."""
    container.text("print('ran')", sagemaker_distributed_dataparallel_enabled="true")
    result = container.run()
    assert (result.code, result.out) == (2, "")
    assert "torch_distributed" in result.failure


def test_hosts_that_do_not_resolve(container):
    """A plain job of several hosts waits for their names as well, and says who is missing."""
    container.text("print('ran')")
    hosts = {"current_host": "algo-1", "hosts": ["algo-1", "no.such.host.invalid"]}
    container.config("resourceconfig", hosts)
    container.environ["BYOC_DNS_SECONDS"] = "0.3"
    result = container.run()
    assert (result.code, result.out) == (2, "")
    assert "no.such.host.invalid" in result.failure
    container.environ["BYOC_DNS_SECONDS"] = "0"
    assert container.run().out == "ran\n"
