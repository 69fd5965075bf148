"""Whatever a program does to its process, its output or the failure file: one code, one reason."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # real processes

FAILURE = "import os, sys\nfailure = os.environ['SM_OUTPUT_DIR'] + '/failure'\n"
ENDS = {
    "stops itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nexit(3)", 3, ""),
    "closes all": ("import os\nos.closerange(0, 100)\nos._exit(3)", 3, "exited with code 3"),
    "closes stdout": ("import os, sys\nos.close(1)\nsys.exit('the cause')", 1, "the cause"),
    "kills its group": ("import os\nos.killpg(0, 9)", 137, "ended by SIGKILL"),
    "odd bytes": (
        "import os\nos.write(2, b'\\xff\\x00\\x1b[31m caf\\xe9\\n')\nos._exit(9)",
        9,
        "\N{REPLACEMENT CHARACTER} caf\N{REPLACEMENT CHARACTER}\n[algo-1 exit 9]",
    ),
    "a huge line": ("import sys\nsys.stderr.write('x' * 3_000_000)\nexit(5)", 5, "xxx"),
    "a huge message": (
        "raise ValueError('begin ' + 'x' * 300_000 + '\\n' + 'more\\n' * 20_000)",
        1,
        "ValueError: begin xxx",
    ),
    "no program": ("import os\nos.execlp('sh', 'sh', '-c', 'nosuch --x')", 127, "sh: 1: nosuch: "),
    "no right": ("import os\nos.execlp('sh', 'sh', '-c', '/etc/passwd')", 126, "sh: 1: /etc/pass"),
    "a killed command": (
        "import os\nos.execlp('bash', 'bash', '-c', 'sh -c \"kill -9 \\\\$\\\\$\"; exit $?')",
        137,
        "exited with code 137: one of its commands ended by SIGKILL\n",
    ),
    "minus one": ("import sys\nsys.exit(-1)", 255, "exited with code 255"),
    "a signal without a name": ("import os\nos.kill(os.getpid(), 40)", 168, "ended by signal 40"),
    "no core": (
        "import os, resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nos.abort()",
        134,
        "ended by SIGABRT",
    ),
    "colours": ("import sys\nsys.exit('\\x1b[31mred\\x1b[0m\\x1b]0;t\\x07')", 1, "red\n[algo-1"),
    "failure: a folder": (f"{FAILURE}os.makedirs(failure + '/x')\nsys.exit('why')", 1, "why\n"),
    "failure: a FIFO": (f"{FAILURE}os.mkfifo(failure)\nsys.exit('why')", 1, "why\n[algo-1"),
    "failure: to nowhere": (f"{FAILURE}os.symlink('/x', failure)\nsys.exit('why')", 1, "why\n"),
    "failure: a loop": (f"{FAILURE}os.symlink(failure, failure)\nsys.exit('why')", 1, "why\n"),
    "failure: a device": (f"{FAILURE}os.symlink('/dev/zero', failure)\nexit('why')", 1, "why\n"),
    "failure: a link": (
        (
            f"{FAILURE}open(failure + '2', 'w').write('mine')\nos.symlink(failure + '2', failure)\n"
            "exit('why')"
        ),
        1,
        "mine",
    ),
    "failure: not UTF-8": (
        f"{FAILURE}open(failure, 'wb').write(b'caf\\xe9' + bytes(2**20))\nexit('why')",
        1,
        "caf",
    ),
    "output: closed": (f"{FAILURE}os.chmod(os.path.dirname(failure), 0)\nexit('why')", 1, "why\n"),
    "output: removed": (
        f"{FAILURE}import shutil\nshutil.rmtree(os.path.dirname(failure))\nexit('why')",
        1,
        "why\n",
    ),
    "output: a file": (
        (
            f"{FAILURE}import shutil\nfolder = os.path.dirname(failure)\nshutil.rmtree(folder)\n"
            "open(folder, 'w')\nexit('why')"
        ),
        1,
        "why\n",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_end(container, name):
    """One exit code and a failure file that begins with the cause, in a regular file."""
    source, code, reason = ENDS[name]
    container.text(source)
    running = container.start()
    assert running.process.wait(20) == code
    assert stat.S_ISREG(container.tree.failure.lstat().st_mode)
    said = container.tree.failure.read_bytes().decode("utf-8", "replace")
    assert said.startswith(reason)
    log = (container.folder / "err").read_bytes()
    assert b"internal error" not in log
    if name == "stops itself":
        assert b"had stopped itself (SIGSTOP); continued" in log


def test_daemon_that_holds_the_pipe(container):
    """A process that left twice, with our pipe in its hands, neither stays nor holds up the end."""
    container.text(
        "import os, signal\n"
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        print('daemon', os.getpid(), flush=True)\n"
        "        os.write(writer, b'x')\n"
        "        signal.pause()\n"
        "    os._exit(0)\n"
        "os.read(reader, 1)\n"
        "exit(6)\n"
    )
    result = container.run()
    assert result.code == 6
    [pid] = [line.split()[1] for line in result.out.splitlines() if line.startswith("daemon")]
    assert not Path("/proc", pid).exists()


def test_full_disk(container):
    """If the failure file can't be written, the reason is in the log and the code stays."""
    container.text("import sys\nsys.exit('why')")
    no_file = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = container.start(prefix=no_file, **pipes).process
    _, log = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"{container.tree.failure} can't be written (File too large): why" in log.decode()


def test_links_in_the_model_folder(container):
    """One line names the links, and what can't be archived, after a training that succeeded."""
    container.text(
        "import os, socket\n"
        "os.chdir(os.environ['SM_MODEL_DIR'])\n"
        "open('a', 'w').write('x')\n"
        "os.symlink('a', 'latest')\n"
        "os.link('a', 'hard')\n"
        "os.symlink('/etc/passwd', 'out')\n"
        "os.symlink('nothing', 'dangling')\n"
        "os.mkfifo('fifo')\n"
        "socket.socket(socket.AF_UNIX).bind('socket')\n"
    )
    result = container.run()
    assert result.code == 0
    [line] = [line for line in result.err.splitlines() if line.startswith("byoc: warning: ")]
    assert "holds 2 links (hard, latest)" in line
    assert "hosting may refuse such an archive; copy the files instead" in line
    assert "/opt/ml/model/dangling because it is a link to what is not there" in line
    assert "/opt/ml/model/fifo because" in line
    assert "and 1 more" in line


def test_plain_model_folder(container):
    """Files and folders are nothing to speak of."""
    container.text("import os\nos.makedirs(os.environ['SM_MODEL_DIR'] + '/a/b')\n")
    assert "warning" not in container.run().err
