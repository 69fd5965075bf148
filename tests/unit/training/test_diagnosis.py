"""The failure text says the cause first, and all that matters within 1024 bytes."""

from __future__ import annotations

import signal

import pytest

from sagemaker_byoc.contract.failure import clip
from sagemaker_byoc.training.supervisor.child import Outcome
from sagemaker_byoc.training.supervisor.diagnosis import Circumstances, failure_text
from sagemaker_byoc.training.supervisor.tracebacks import last_traceback

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
    """A group's margin does not hide it."""
    assert text(err=GROUP).startswith("ExceptionGroup: several (1 sub-exception)\n")


def test_unrelated_tracebacks_are_no_chain():
    """Two tracebacks in one log are a chain only where Python says so."""
    found = last_traceback(STATE_DICT + "warming up\n" + SYNTAX)
    assert found.exception == "SyntaxError: invalid syntax"
    assert found.root is None


def test_code_without_traceback(text):
    """The code, and the last words."""
    assert text(err="one\ntwo\n\n", code=3).splitlines()[:2] == [
        "exited with code 3",
        "last line: two",
    ]
    assert "last line: three" in text(out="three\n", code=3)


def test_a_traceback_that_was_survived(text):
    """What was logged long before the end is not the cause of exit code 3."""
    log = CHAIN + "step 1\nstep 2\nstep 3\nno GPU\n"
    assert text(err=log, code=3).startswith("exited with code 3\nlast line: no GPU\n")


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


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "disk full: raise VolumeSizeInGB"),
        ("MemoryError", "host out of memory: "),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", "CUDA out of memory: use smaller"),
        ("ModuleNotFoundError: No module named 'x'", "import error: the image lacks it"),
        ("pkg.HyperparameterError: 2 hyperparameters do not fit", "bad hyperparameter: "),
    ],
)
def test_class(text, error, words):
    """The commonest errors are called by their class, with what helps."""
    shown = text(err=CHAIN.replace("RuntimeError: no vocabulary", error))
    assert shown.startswith(error)
    assert f"\n{words}" in shown


@pytest.mark.parametrize(
    ("code", "err", "words"),
    [
        (2, "train.py: error: argument --lr: invalid float value: 'a'\n", "bad hyperparameter: "),
        (2, "train.py: error: unrecognized arguments: --x 1\n", "bad hyperparameter: "),
        (-6, "Watchdog caught collective operation timeout: Work\nabort\n", "NCCL timeout: "),
        (0, "", "missing data: channel 'a' has no data"),
    ],
)  # fmt: skip
def test_class_without_traceback(text, code, err, words):
    """argparse and NCCL raise nothing, and are understood all the same."""
    absent = ("channel 'a' has no data",) if not code else ()
    assert f"\n{words}" in text(err=err, code=code or 1, absent=absent)


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


def test_parts_do_not_crowd_each_other_out(text):
    """A huge message leaves room for who and where."""
    shown = clip(text(err=CHAIN.replace("no vocabulary", "ü" * 5000)))
    assert len(shown.encode()) <= 1024
    assert "[algo-1 exit 1]" in shown
    assert "caused by: ValueError" in shown
    assert "deep/model.py:3" in shown
