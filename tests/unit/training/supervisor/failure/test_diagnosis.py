"""The failure text says the cause first, and all that matters within 1024 bytes."""

# ruff: noqa: E501 - lines as programs print them

from __future__ import annotations

import re
import signal
import subprocess
import sys
from itertools import zip_longest

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagemaker_byoc.contract.lifecycle import clip
from sagemaker_byoc.training.supervisor.failure import hints
from sagemaker_byoc.training.supervisor.failure.diagnosis import Circumstances, failure_text
from sagemaker_byoc.training.supervisor.failure.tracebacks import last_traceback
from sagemaker_byoc.training.supervisor.process.child import Outcome

CHAIN = """\
Traceback (most recent call last):
  File "/code/train.py", line 4, in <module>
    int("abc")
ValueError: invalid literal

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/code/train.py", line 6, in <module>
    main()
  File "/env/lib/python3.11/site-packages/torch/nn.py", line 9, in call
    forward()
  File "/code/deep/model.py", line 3, in forward
    raise RuntimeError("no vocabulary") from error
RuntimeError: no vocabulary
"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "/code/train.py", line 2, in <module>
  |     raise ExceptionGroup("several", [ValueError("one")])
  | ExceptionGroup: several (1 sub-exception)
  +-+---------------- 1 ----------------
    | ValueError: one
    +------------------------------------
"""
STATE_DICT = """\
Traceback (most recent call last):
  File "/code/train.py", line 2, in <module>
    model.load_state_dict(state)
RuntimeError: Error(s) in loading state_dict for Net:
\tMissing key(s) in state_dict: "fc.weight".
"""
SYNTAX = """\
  File "/code/train.py", line 3
    def train(:
              ^
SyntaxError: invalid syntax
"""


@pytest.fixture
def text(container):
    """The failure text for an end of the program."""

    def made(*, err="", out="", code=1, stop=None, is_overrun=False, **circumstances):
        folder = container.tree.root.parent / "code"
        err = err.replace("/code", str(folder))
        outcome = Outcome(code, stop, is_overrun, out, err)
        return failure_text(outcome, Circumstances(container.job(), folder, **circumstances))

    return made


def test_cause_then_who_then_where(text):
    """The last exception, the first of its chain, host and code, the user's frames from inside."""
    assert text(err=CHAIN).splitlines() == [
        "RuntimeError: no vocabulary",
        "caused by: ValueError: invalid literal",
        "[algo-1 exit 1]",
        '  deep/model.py:3 in forward: raise RuntimeError("no vocabulary") from error',
        "  train.py:6 in <module>: main()",
    ]


def test_message_of_several_lines(text):
    """What a message says on its indented lines belongs to it."""
    first = text(err=STATE_DICT).splitlines()[0]
    assert first.endswith('for Net: Missing key(s) in state_dict: "fc.weight".')


def test_syntax_error(text):
    """A program that can't be parsed has no traceback header, and is diagnosed all the same."""
    assert text(err=SYNTAX).splitlines() == [
        "SyntaxError: invalid syntax",
        "[algo-1 exit 1]",
        "  train.py:3: def train(:",
    ]


def test_exception_group(text):
    """A group's margin hides neither it nor its members."""
    assert text(err=GROUP).startswith(
        "ExceptionGroup: several (1 sub-exception)\n(1) ValueError: one\n[algo-1"
    )


def test_unrelated_tracebacks_are_no_chain():
    """Two tracebacks in one log are a chain only if Python's words link them."""
    found = last_traceback(STATE_DICT + "warming up\n" + SYNTAX)
    assert found.exception == "SyntaxError: invalid syntax"
    assert found.root is None


def test_code_without_traceback(text):
    """The last words on stderr are the cause; those on stdout may be anything."""
    assert text(err="one\ntwo\n\n", code=3) == "two\nbefore it: one\n[algo-1 exit 3]"
    assert text(out="three\n", code=3).startswith("exited with code 3\nlast line: three\n")
    assert text(code=3) == "exited with code 3\n[algo-1 exit 3]"


def test_a_traceback_that_was_survived(text):
    """What was logged long before the end is not the cause, whatever the code, but is reported."""
    log = CHAIN + "step 1\nstep 2\nstep 3\nno GPU\n"
    records = CHAIN + "2026-11-29 10:00:00 INFO all is well\n" * 5 + "no GPU\n"
    for code in (1, 3):
        for err in (log, records):
            shown = text(err=err, code=code)
            assert shown.startswith("no GPU\nearlier: RuntimeError: no vocabulary\n[algo-1")


@pytest.mark.parametrize(
    ("number", "words"),
    [("SIGKILL", "killed from outside"), ("SIGSEGV", "compiled code"), ("SIGBUS", "--shm-size")],
)
def test_signal_has_a_name_and_a_hint(text, number, words):
    """A signal is called by its name, and has the exit code that shells give it."""
    value = signal.Signals[number]
    shown = text(code=-value)
    assert shown.startswith(f"ended by {number}\n[algo-1 exit {128 + value}]\n")
    assert words in shown


def test_out_of_memory(text):
    """Only a risen counter of the control group makes a SIGKILL an out-of-memory kill."""
    shown = text(code=-9, oom_kills=1)
    assert shown.startswith("killed by SIGKILL: out of memory\n")
    assert "larger instance" in shown


def test_stopped(text):
    """A program that does not handle SIGTERM was stopped; one that did not end was killed."""
    assert text(code=-15, stop=signal.SIGTERM).startswith("stopped by SIGTERM")
    late = text(code=-9, stop=signal.SIGTERM, is_overrun=True)
    assert late.startswith("did not end in time after SIGTERM, and was killed")


@pytest.mark.parametrize("hint", hints.TEXTS, ids=lambda hint: hint.pattern[:20])
def test_hints_for_processes(hint):
    """On a host there is no image to build, and its packages are not an image's."""
    assert not re.search("image|PACKAGES|VolumeSize", hint.on_host or hint.in_image)


def test_a_missing_module_of_a_process():
    """The hint is the command that installs it into the Python of the job."""
    environ = {"BYOC_INSTALLER": "pip install"}
    for text, words in (
        ("ModuleNotFoundError: No module named 'sklearn'", "pip install scikit-learn"),
        ("ImportError: libGL.so.1: cannot open shared object file", "install Debian's package li"),
        ("/bin/python: No module named pkg", None),
    ):
        hint = hints.hint_for_text(text, environ)
        assert words in hint if words else hint is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "disk full: raise VolumeSizeInGB"),
        ("MemoryError", "host out of memory: "),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", "CUDA out of memory: use smaller"),
        (
            "ModuleNotFoundError: No module named 'sklearn.svm'",
            "import error: the image lacks sklearn: add scikit-learn to requirements.txt",
        ),
        ("ImportError: cannot import name 'x' from 'y'", "import error: the image lacks it, or"),
        (
            "ImportError: attempted relative import with no known parent package",
            "hint: run it as a module",
        ),
        ("OSError: env: 'bash\\r': No such file or directory", "hint: the first line (#!)"),
        ("pkg.HyperparameterError: 2 hyperparameters do not fit", "bad hyperparameter: "),
        (
            (
                "torch._inductor.exc.InductorError: InvalidCxxCompiler: No working C++ compiler found in "
                "torch._inductor.config.cpp.cxx: (None, 'g++')"
            ),
            "compiler missing: build the image with PACKAGES=g++",
        ),
        (
            (
                "torch._inductor.exc.InductorError: RuntimeError: Failed to find C compiler. Please "
                "specify via CC environment variable or set triton.knobs.build.impl."
            ),
            "compiler missing: build the image with PACKAGES=g++",
        ),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'g++'", "compiler missing: "),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'git'", "git is missing: "),
        (
            "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
            "libGL.so.1 is missing: build the image with PACKAGES=libgl1",
        ),
        ("OSError: libgomp.so.1: cannot open shared object file: No such", "PACKAGES=libgomp1"),
        ("OSError: libx.so.9: cannot open shared object file: No such", "libx.so.9 is missing: "),
        (
            (
                "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required "
                "by /x/_c.so)"
            ),
            "hint: a library was built for a newer system",
        ),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
            "driver too old: ",
        ),
        (
            "torch.AcceleratorError: CUDA error: no kernel image is available for execution",
            "hint: ",
        ),
        ("AssertionError: Torch not compiled with CUDA enabled", "no GPU: take an instance type"),
        (
            (
                "RuntimeError: DataLoader worker (pid 77) is killed by signal: Bus error. It is possible "
                "that dataloader's workers are out of shared memory."
            ),
            "shared memory is too small: ",
        ),
        (
            (
                "torch.distributed.DistNetworkError: The server socket has failed to listen on any local "
                "network address. port: 29911, useIpv6: false, code: -98, name: EADDRINUSE, message: "
                "address already in use"
            ),
            "hint: the port is taken",
        ),
        (
            (
                "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and "
                "couldn't find them in the cached files."
            ),
            "no network: send the model or data as a channel",
        ),
        (
            (
                "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1)\n\nCannot "
                "access gated repo for url https://huggingface.co/a/b."
            ),
            "no access: give HF_TOKEN",
        ),
        ("OSError: CUDA_HOME environment variable is not set.", "CUDA's compiler is missing"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'nvcc'", "CUDA's compiler is"),
        (
            "OSError: HTTPSConnectionPool(host='x'): Max retries exceeded with url: /",
            "no network: ",
        ),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "no network: the job"),
        ("OSError: [Errno 24] Too many open files", "hint: too many open files"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "hint: write to /opt/ml/model"),
        (
            (
                "RuntimeError: \n        An attempt has been made to start a new process before the\n"
                "        current process has finished its bootstrapping phase."
            ),
            "hint: put what starts the program below",
        ),
    ],
)
def test_class(text, error, words):
    """The commonest errors are called by their class, with what helps."""
    shown = text(err=CHAIN.replace("RuntimeError: no vocabulary", error))
    assert shown.startswith(" ".join(error.split()))
    assert f"\n{words}" in shown or words in shown.split("\n[algo-1")[1]


@pytest.mark.parametrize(
    ("code", "err", "words"),
    [
        (2, "train.py: error: argument --lr: invalid float value: 'a'\n", "bad hyperparameter: "),
        (2, "train.py: error: unrecognized arguments: --x 1\n", "bad hyperparameter: "),
        (2, "Error: Invalid value for '--lr': 'a' is not a valid float.\n", "bad hyperparameter: "),
        (2, "ERROR: Could not consume arg: --x\nUsage: t.py\n", "bad hyperparameter: "),
        (-6, "Watchdog caught collective operation timeout: Work\nabort\n", "NCCL timeout: "),
        (0, "", "missing data: channel 'a' has no data"),
    ],
)  # fmt: skip
def test_class_without_traceback(text, code, err, words):
    """argparse and NCCL raise nothing, and are understood all the same."""
    absent = ("channel 'a' has no data",) if not code else ()
    assert f"\n{words}" in text(err=err, code=code or 1, absent=absent)


BAR = "9%|#  | 1.2k/13k [00:01<00:09, 3.2it/s, loss=1]"


@pytest.mark.parametrize(
    ("out", "err", "said"),
    [
        ("Error: bad config\n", "", "Error: bad config"),
        ("ERROR:root:no data\n", "step 1\n", "ERROR:root:no data"),
        ("fine\n", "Error: no data\nin channel\n", "Error: no data in channel"),
        ("fine\n", "Error: a\nb\nc\nd\ne\n", "e"),
        ("", f"{BAR}no data\n", "no data"),
        ("", f"step 1\nEpoch 2: {BAR}Error: no data\n", "Error: no data"),
        ("", f"{BAR}\n", f"exited with code 2\nlast line: {BAR}"),
    ],
)
def test_error_message_is_the_cause(text, out, err, said):
    """On stdout if stderr says nothing, and with the few lines below it."""
    assert text(out=out, err=err, code=2).startswith(f"{said}\n")


def test_torch_label():
    """The label that torch puts before a rank's traceback hides nothing."""
    labelled = "".join(f"[rank3]: {line}\n" for line in CHAIN.splitlines())
    found = last_traceback(labelled)
    assert (found.exception, found.root) == (
        "RuntimeError: no vocabulary",
        "ValueError: invalid literal",
    )
    assert found.is_at_end


def test_torchruns_own_traceback_is_passed_over():
    """Below the program's traceback comes torchrun's, which says nothing."""
    ours = 'Traceback (most recent call last):\n  File "/x/torch/run.py", line 1, in main\n'
    log = f"{CHAIN}{ours}torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
    assert last_traceback(log).exception == "RuntimeError: no vocabulary"


def test_missing_channel(text, container):
    """A channel that the program wants by variable or path, and the job lacks, is named."""
    container.config("inputdataconfig", {"valid": {}})
    data = container.tree.data
    for wanted in ("KeyError: 'SM_CHANNEL_TRAIN'", f"FileNotFoundError: '{data}/train/a.csv'"):
        shown = text(err=CHAIN.replace("RuntimeError: no vocabulary", wanted))
        assert "channel 'train' was not given: add it to the job's inputs" in shown
        assert str(data / "train") in shown
    assert "was not given" not in text(err=f"KeyError: {data}/valid/b.csv")


def test_a_channel_whose_variable_had_a_default(text, container, tmp_path):
    """`os.environ.get` hides the name from the exception; the program's source has it."""
    container.config("inputdataconfig", {"valid": {}})
    script = tmp_path / "train.py"
    script.write_text('"SM_CHANNEL_TRAIN", "SM_CHANNEL_VALID", "SM_CHANNEL_EXTRA"')
    end = "TypeError: expected str, bytes or os.PathLike object, not NoneType"
    log = f'Traceback (most recent call last):\n  File "{script}", line 1, in <module>\n    {{}}\n{end}'
    shown = text(err=log.format("open(arguments.train)"))
    assert "channel 'train' was not given" in shown
    assert "'extra' was not given" not in shown
    shown = text(err=log.format("open(path)"))
    assert shown.index("channel 'train' was not given") < shown.index("channel 'extra' was not")
    assert "'valid' was" not in shown
    assert "was not given" not in text(err=log.format("open(path)").replace("NoneType", "int"))
    script.unlink()
    assert "was not given" not in text(err=log.format("open(path)"))


def test_parts_do_not_crowd_each_other_out(text):
    """A huge message leaves room for the host and the place."""
    shown = clip(text(err=CHAIN.replace("no vocabulary", "ü" * 5000)))
    assert len(shown.encode()) <= 1024
    assert "[algo-1 exit 1]" in shown
    assert "caused by: ValueError" in shown
    assert "deep/model.py:3" in shown


# What Python itself prints for these programs, in a real interpreter: the beginning of the text.
PROGRAMS = {
    "raise RuntimeError('NCCL error\\nncclUnhandledCudaError: failed.\\nLast error:\\nDuplicate GPU')": (
        "RuntimeError: NCCL error ncclUnhandledCudaError: failed. Last error: Duplicate GPU\n[algo-1"
    ),
    "import sys, traceback\ntry: raise RuntimeError('a\\nb\\nc\\nd\\ne')\n"
    "except RuntimeError: traceback.print_exc(); sys.exit(3)": (
        "RuntimeError: a b c d e\n[algo-1 exit 3]"
    ),
    "e = ValueError('x')\ne.add_note('in batch 7')\ne.add_note('of shard 2')\nraise e": (
        "ValueError: x in batch 7 of shard 2\n"
    ),
    "def f(): raise ValueError('one\\nmore')\nl = []\nfor g in (f, lambda: {}['two']):\n"
    "    try: g()\n    except Exception as e: l.append(e)\n"
    "raise ExceptionGroup('several', [*l, ExceptionGroup('inner', [TypeError('three')])])": (
        "ExceptionGroup: several (3 sub-exceptions)\n(1) ValueError: one more\n(2) KeyError: 'two'\n"
        "(3) ExceptionGroup: inner (1 sub-exception)\n(4) TypeError: three\n[algo-1"
    ),
    "import asyncio\nasync def bad(): raise ValueError('inside')\nasync def main():\n"
    "    async with asyncio.TaskGroup() as g: g.create_task(bad())\nasyncio.run(main())": (
        "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)\n(1) ValueError: inside\n"
        "[algo-1 exit 1]\n  train.py:2 in bad"
    ),
    "try: int('a')\nexcept ValueError as e: raise RuntimeError('two\\nlines') from e": (
        "RuntimeError: two lines\ncaused by: ValueError: invalid literal for int() with base 10: 'a'\n"
    ),
    "import multiprocessing\ndef f(x): raise ValueError('in a worker\\nof two')\n"
    "if __name__ == '__main__':\n    with multiprocessing.Pool(1) as p: p.map(f, [1])": (
        "ValueError: in a worker of two\n[algo-1 exit 1]\n  train.py:2 in f"
    ),
    "import subprocess\nsubprocess.run(['sh', '-c', 'echo no bucket >&2; exit 4'], check=True)": (
        "no bucket\nthen: subprocess.CalledProcessError: Command '['sh', '-c', 'echo no bucket >&2; exit "
        "4']' returned non-zero exit status 4.\n[algo-1 exit 1]"
    ),
    "import sys\nprint('step 1', file=sys.stderr)\nsys.exit('data set too small')": (
        "data set too small\n[algo-1 exit 1]"
    ),
    "import sys\nsys.exit('data set too small:\\n3 rows\\nof 100')": (
        "of 100\nbefore it: data set too small: 3 rows\n[algo-1 exit 1]"
    ),
    "import argparse\np = argparse.ArgumentParser('train.py')\np.add_argument('--lr', type=float)\n"
    "p.parse_args(['--lr', 'a'])": (
        "train.py: error: argument --lr: invalid float value: 'a'\n[algo-1 exit 2]\nbad hyperparameter"
    ),
    "import faulthandler, ctypes\nfaulthandler.enable()\ndef crash(): ctypes.string_at(0)\ncrash()": (
        "ended by SIGSEGV\nFatal Python error: Segmentation fault\n[algo-1 exit 139]"
    ),
    "import os\nos.write(2, b'terminate called after throwing an instance of \\'x\\'\\n  what():  bad\\n')\n"
    "os.abort()": (
        "ended by SIGABRT\nlast line: terminate called after throwing an instance of 'x' what(): bad\n"
    ),
    "import logging, sys\nlogging.basicConfig(level=20)\nlogging.error('no data')\nlogging.info('bye')\n"
    "sys.exit(4)": "ERROR:root:no data\n[algo-1 exit 4]",
    "import os\nos.kill(os.getpid(), 40)": "ended by signal 40\n[algo-1 exit 168]",
    "print(\"Could not override 'lrr'.\\nKey 'lrr' not in 'Config'\\n    full_key: lrr\\n\\nSet the env"
    " variable HYDRA_FULL_ERROR=1\", file=__import__('sys').stderr); exit(1)": (
        "Key 'lrr' not in 'Config' full_key: lrr\nbefore it: Could not override 'lrr'.\n[algo-1"
    ),
}


@pytest.mark.parametrize("source", PROGRAMS)
def test_what_python_prints(text, tmp_path, source):
    """The whole message, of whatever raised; the words of a program that did not raise."""
    script = tmp_path / "code" / "train.py"
    script.parent.mkdir()
    script.write_text(source)
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, env={}
    )
    shown = text(
        err=ran.stderr.replace(str(script.parent), "/code"), out=ran.stdout, code=ran.returncode
    )
    assert shown.startswith(PROGRAMS[source])


TYPER = """\
╭───────────────────── Traceback (most recent call last) ──────────────────────╮
│ /code/a/very/long/path/that/does/not/fit/in/one/line/of/the/inner/box/typer_ │
│ app.py:14 in main                                                            │
│                                                                              │
│   13 │   for step in range(3):                                               │
│ ❱ 14 │   │   come(step)                                                      │
│   15                                                                         │
│ ╭─ locals ─╮                                                                 │
│ │ step = 1 │                                                                 │
│ ╰──────────╯                                                                 │
╰──────────────────────────────────────────────────────────────────────────────╯
ValueError: loss is not finite
last batch: 7
"""
CLICK_BOX = """\
Usage: train.py [OPTIONS]
Try 'train.py --help' for help.
╭─ Error ──────────────────────────────────────────────────────────────────────╮
│ Invalid value for '--lr': Input should be a valid number, unable to parse    │
│ string as a number                                                           │
│ ──────────────────────────────────────────────────────────────────────────── │
╰──────────────────────────────────────────────────────────────────────────────╯
"""
RICH = f"""\
╭─ Traceback (most recent call last) ─╮
│ {"/code/my data/train.py:7 in":35} │
│ {"<module>":35} │
│ {"":35} │
│ {"❱ 7 main()":35} │
│ {"":35} │
│ {"/code/my":35} │
│ {"data/a/path/as/long/as/the/box/loss":35} │
│ {"es.py:10 in main":35} │
│ {"":35} │
│ {"❱ 10 │   raise ValueError('bad')":35} │
│ {"":35} │
│ {"/code/my data/and/its/losses.py:28":35} │
│ {"in loss":35} │
│ {"":35} │
│ {"❱ 28 │   raise ValueError('bad')":35} │
╰─────────────────────────────────────╯
ValueError: bad
"""
NOTEBOOK = """\
\x1b[0;31m-----------------------------------------------------------------------\x1b[0m
\x1b[0;31mValueError\x1b[0m                      Traceback (most recent call last)
File \x1b[0;32m/code/train.py:3\x1b[0m, in f(x)
      2 def f(x):
\x1b[0;32m----> 3\x1b[0m     raise ValueError("bad")

\x1b[0;31mValueError\x1b[0m: bad
thing
"""


def test_drawn_tracebacks(text):
    """Boxes of rich and typer, in any alphabet, and IPython's colours hide nothing."""
    plain = TYPER.replace("❱", "\\u2771")
    for edge in "╭╮╰╯":
        plain = plain.replace(edge, "+")
    plain = plain.replace("─", "-").replace("│", "|")
    logged = "".join(f"{' ' * 29}{line}\n" for line in TYPER.splitlines())
    for drawn in (TYPER, plain, f"[11/29/26 10:16:17] ERROR    it failed\n{logged}"):
        shown = text(err=drawn)
        assert shown.startswith("ValueError: loss is not finite last batch: 7\n[algo-1 exit 1]\n")
        assert "/box/typer_app.py:14 in main: come(step)" in shown
    assert text(err=RICH) == (
        "ValueError: bad\n[algo-1 exit 1]\n"
        "  my data/and/its/losses.py:28 in loss: raise ValueError('bad')\n"
        "  my data/a/path/as/long/as/the/box/losses.py:10 in main: raise ValueError('bad')\n"
        "  my data/train.py:7 in <module>: main()"
    )
    assert text(err=NOTEBOOK) == (
        'ValueError: bad thing\n[algo-1 exit 1]\n  train.py:3 in f: raise ValueError("bad")'
    )
    assert text(err=CLICK_BOX, code=2).startswith(
        "Error: Invalid value for '--lr': Input should be a valid number, unable to parse string as "
        "a number\n[algo-1 exit 2]\nbad hyperparameter"
    )


ECHO = """\
Traceback (most recent call last):
  File "/code/train.py", line 9, in <module>
    all_reduce(x)
RuntimeError: [pair.cc:553] Connection closed by peer [127.0.0.1]:37032
"""
TORCHRUN = """\
E1129 09:08:45.903000 4664 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1)
Traceback (most recent call last):
  File "/x/torch/run.py", line 1, in main
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: 
============================================================
train.py FAILED
Root Cause (first observed failure):
[0]:
  time      : 2026-11-29_09:08:45
  rank      : 1 (local_rank: 1)
  exitcode  : CODE (pid: 4670) 
  error_file: <N/A>
============================================================
"""  # noqa: W291 - as torchrun prints it


def labelled(rank, log):
    return [f"[rank{rank}]: {line}" for line in log.splitlines()]


def test_ranks_in_one_log(text):
    """Torchrun in a shell program: the rank that failed by itself, though its lines are mixed."""
    both = zip_longest(labelled(1, STATE_DICT), labelled(0, ECHO))
    log = "".join(f"{line}\n" for pair in both for line in pair if line)
    shown = text(err=log + TORCHRUN.replace("CODE", "1"))
    assert shown.startswith("RuntimeError: Error(s) in loading state_dict for Net: Missing key(s)")
    assert "torchrun: rank 1 ended with exit code 1" in shown
    silent = "".join(f"{line}\n" for line in ["data set too small", *labelled(0, ECHO)])
    shown = text(err=silent + TORCHRUN.replace("CODE", "3"))
    assert shown.startswith("data set too small\ntorchrun: rank 1 ended with exit code 3\n")
    shown = text(err=TORCHRUN.replace("CODE", "-9"))
    assert (
        "\ntorchrun: rank 1 ended by SIGKILL\n[algo-1 exit 1]\nhint: killed from outside" in shown
    )


def test_long_message_is_cut_in_the_middle(text):
    """Both its ends stay, and so do who failed and the innermost lines; no character is cut."""
    shown = text(err=CHAIN.replace("no vocabulary", f"begin {'ü' * 900} the end"))
    first, caused, who, *places = shown.splitlines()
    assert first.startswith("RuntimeError: begin ü")
    assert first.endswith("ü the end")
    assert "\ufffd" not in first
    assert (caused, who) == ("caused by: ValueError: invalid literal", "[algo-1 exit 1]")
    assert len(places) == 2
    assert 1000 < len(shown.encode()) <= 1024


def test_many_absent_channels(text):
    """However many channels lack data, the cause has its room."""
    absent = tuple(f"channel 'c{n}' has no data: {'x' * 90}" for n in range(20))
    shown = text(err=CHAIN.replace("no vocabulary", "ü" * 900), absent=absent)
    assert shown.splitlines()[0].startswith(f"RuntimeError: {'ü' * 50}")
    assert "[algo-1 exit 1]\nmissing data: channel 'c0' has no data" in shown
    assert len(shown.encode()) <= 1024


@given(st.text(max_size=300), st.integers(-64, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_output(text, said, code):
    """Nothing that a program prints breaks the diagnosis or its limit."""
    for log in (said, f"{HEADLESS}{said}", f"{GROUP[:200]}{said}", f"{TYPER[:300]}{said}"):
        assert 0 < len(text(err=log, out=said, code=code or 1).encode()) <= 1024


HEADLESS = 'Traceback (most recent call last):\n  File "/code/t.py", line 1, in f\n'


def test_secret_across_the_cut(text):
    """A secret is hidden before a message is cut, so that no half of it stays."""
    secret = "sk-0123456789"
    error = f"RuntimeError: {'x' * 400}{secret * 99}{'y' * 400}"
    shown = text(
        err=CHAIN.replace("RuntimeError: no vocabulary", error),
        mask=lambda words: words.replace(secret, "***"),
    )
    assert "***" in shown
    assert "0123" not in shown
