"""The real `train` command on a real tree, with programs that behave and programs that don't."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.unit.training.supervisor.conftest import COMMAND

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.training.supervisor.plan import SHUTDOWN_TIMEOUT, SITE, make_plan

pytestmark = pytest.mark.slow


def facts(result):
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_what_a_program_is_given(container):
    """Arguments, folder, SM_* variables, unbuffered output, and a separate process group."""
    container.program("shows_facts.py", lr="1.10", learning_rate="3", flag="true")
    container.environ |= {"PYTHONPATH": "/inherited", "PYTHONHASHSEED": "7"}
    container.environ["SM_MODEL_DIR"] = "/stale"
    given = facts(container.run())
    code, environ = str(container.tree.code), given["environ"]
    assert given["argv"][1:] == ["--flag", "True", "--learning_rate", "3", "--lr", "1.10"]
    assert given["cwd"] == code
    assert environ["PYTHONPATH"] == f"{SITE}:{code}:/inherited"
    assert (environ["PYTHONUNBUFFERED"], environ["PYTHONHASHSEED"]) == ("1", "7")
    assert environ["SM_MODEL_DIR"] == str(container.tree.model)
    assert environ["SM_HP_LR"] == "1.10"
    assert given["group"]


def test_success(container):
    """Every folder that a program may write to is there, and no failure file of an earlier run."""
    container.text("")
    container.tree.failure.parent.mkdir()
    container.tree.failure.write_text("old")
    result = container.run()
    assert (result.code, result.failure) == (0, None)
    assert all(folder.is_dir() for folder in container.tree.written_by_training)


def test_no_argument_is_train(container):
    """SageMaker's argument may be left out."""
    container.text("print('ran')")
    command = [*COMMAND]
    environ = {"SAGEMAKER_BASE_DIR": str(container.tree.root)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "ran\n"


def test_unknown_argument(container):
    """Any other argument is an error that says what there is."""
    result = container.run("serve")
    assert result.code == ExitCode.BAD_INPUT
    assert "usage: train" in result.err


def test_banner_is_one_line(container):
    """One line says what runs where; a secret is not in it."""
    container.text("", epochs="3", api_key="very-secret")
    [line] = container.run().err.splitlines()
    assert line.startswith(f"byoc: train.py from {container.tree.code}")
    assert "algo-1 is host 1 of 1" in line
    assert '{"epochs":"3","api_key":"***"}' in line


def test_passed_over_code_is_named(container):
    """If there are two programs, the log names the one that was not used."""
    container.text("")
    baked = container.folder / "baked"
    baked.mkdir()
    (baked / "train.py").write_text("raise SystemExit(1)")
    result = container.run()
    assert result.code == 0
    assert f"byoc: code passed over: {baked} (in the image)" in result.err.splitlines()


def test_shell_program(container):
    """A shell program gets its arguments unharmed."""
    container.text("", text="$HOME `id` ; it's")
    (container.tree.code / "train.py").rename(container.tree.code / "train.sh")
    (container.tree.code / "train.sh").write_text('printf "%s|" "$@"')
    assert container.run().out == "--text|$HOME `id` ; it's|\n"


@pytest.mark.parametrize(
    ("program", "code", "first", "later"),
    [
        ("raises.py", 1, "ValueError: loss is not finite in batch 7", "train.py:5 in step"),
        ("exits_3.py", 3, "the vocabulary has 0 words", "[algo-1 exit 3]"),
        ("logs_and_exits_3.py", 3, "no GPU was found", "earlier: KeyError: 'warm-up'"),
        ("killed.py", 137, "ended by SIGKILL", "[algo-1 exit 137]"),
        ("fills_stderr.py", 1, "RuntimeError: the cause", "[algo-1 exit 1]"),
        ("chained_exception.py", 1, "RuntimeError: could not read", "caused by: ValueError: inv"),
        (
            "missing_module.py",
            1,
            "ModuleNotFoundError: No module",
            "the image lacks no_such_package_of_anyone: add no_such_package_of_anyone to",
        ),
        ("needs_channel.py", 1, "KeyError: 'SM_CHANNEL_TRAIN'", "channel 'train' was not given"),
    ],
)
def test_failure(container, program, code, first, later):
    """The program's own exit code, and the cause first in the failure file."""
    container.program(program)
    result = container.run()
    assert result.code == code
    assert result.failure.startswith(first)
    assert later in result.failure
    assert len(result.failure.encode()) <= 1024


def test_syntax_error(container):
    """A program that can't be compiled is diagnosed like one that raises."""
    container.text("def train(:\n    pass\n", is_fast="true")
    result = container.run()
    assert result.failure.startswith("SyntaxError: ")
    assert "train.py:1" in result.failure


def test_the_programs_own_failure_file_stays(container):
    """A failure file that the program wrote is kept."""
    container.program("writes_failure.py")
    assert container.run().failure == "my own reason"


def test_secret_is_not_in_the_failure_file(container):
    """An exception that quotes a secret does not publish it as FailureReason."""
    container.program("tells_secret.py", api_key='"sk-0123456789"')
    result = container.run()
    assert result.failure.startswith("RuntimeError: login failed with ***")
    assert "sk-0123456789" not in result.failure
    ours = [line for line in result.err.splitlines() if line.startswith("byoc: ")]
    assert "sk-0123456789" not in "".join(ours)


def test_empty_channel_is_warned_of_and_blamed(container):
    """A declared channel without data is a warning at the start, and a line of the failure."""
    container.program("raises.py")
    container.config("inputdataconfig", {"train": {}, "stream": {"TrainingInputMode": "Pipe"}})
    result = container.run()
    folder = container.tree.channel("train")
    words = f"channel 'train' has no data: {folder} is missing"
    [warning] = [line for line in result.err.splitlines() if "warning" in line]
    assert words in warning
    assert words in result.failure


def test_misspelt_settings_are_warned_of(container):
    """A variable or a hyperparameter that is nearly one of ours is named at the start."""
    container.program("shows_facts.py", sagemaker_byoc_hang_second="60", epochs="1")
    container.environ |= {"BYOC_STOP_GRASE": "5", "BYOC_QUEUE": "5"}
    result = container.run()
    assert result.code == 0
    assert [line for line in result.err.splitlines() if "warning" in line] == [
        "byoc: warning: variable BYOC_STOP_GRASE is not known; did you mean BYOC_STOP_GRACE?",
        (
            "byoc: warning: hyperparameter sagemaker_byoc_hang_second is not known; did you mean "
            "sagemaker_byoc_hang_seconds?"
        ),
    ]


def test_broken_document(container):
    """A file that breaks the contract ends the job with a message, not a traceback."""
    container.text("")
    container.tree.hyperparameters_file.write_text('{"a": "1",\n "b" "2"}')
    result = container.run()
    assert result.code == ExitCode.BAD_INPUT
    assert "hyperparameters.json: is not JSON (Expecting ':' delimiter: line 2" in result.failure
    assert "Traceback" not in result.err


def test_hyperparameters_written_by_hand(container):
    """Numbers, booleans, null, lists and objects are taken as their JSON text; one line says so."""
    container.program("shows_facts.py", epochs=3, amp=True, none=None, xs=[1, "a"], o={"a": [2]})
    result = container.run()
    assert facts(result)["argv"][1:] == [
        "--amp", "True", "--epochs", "3", "--none", "", "-o", '{"a": [2]}', "--xs", '[1, "a"]',
    ]  # fmt: skip
    [warning] = [line for line in result.err.splitlines() if "warning" in line]
    assert "hyperparameters.json: epochs, amp, none, xs, o are not strings" in warning


@pytest.mark.parametrize("text", ["\0", "\ud800", '"\\u0000"'])
def test_text_that_no_program_can_get(container, text):
    """It is refused under the name of its hyperparameter, and is not a defect of ours."""
    container.text("", fine="1", broken=text)
    result = container.run()
    assert result.code == ExitCode.BAD_INPUT
    assert "hyperparameters.json: 'broken': holds a NUL character or half" in result.failure


def test_no_program(container):
    """Without a program the failure lists the places that were searched."""
    result = container.run()
    assert result.code == ExitCode.BAD_INPUT
    assert str(container.tree.code) in result.failure


def test_model_folder_that_is_a_file(container):
    """A model folder that can't be made ends the job at once, with path and hint."""
    container.text("print('ran')")
    container.tree.model.write_text("")
    result = container.run()
    assert result.code == ExitCode.BAD_INPUT
    assert str(container.tree.model) in result.failure
    assert result.out == ""


def test_read_only_model_folder(container):
    """A model folder that is mounted read-only ends the job at once, with path and hint."""
    container.text("print('ran')")
    container.tree.model.mkdir()
    mount = f'mount -t tmpfs -o ro none "{container.tree.model}" && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", mount, "-"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    result = container.run(prefix=prefix)
    assert result.code == ExitCode.BAD_INPUT
    assert f"{container.tree.model}: can't be written to. Mount it writable" in result.failure
    assert result.out == ""


@pytest.mark.parametrize("grace", ["soon", "-1", "inf", "nan"])
def test_bad_grace(container, grace):
    """A grace period that is not a number is an error at the start, not a surprise at the end."""
    container.text("")
    with pytest.raises(ContractError, match="BYOC_STOP_GRACE"):
        make_plan(container.job(), {"BYOC_STOP_GRACE": grace})


def test_program_that_can_not_be_started(container):
    """An executable without a program behind its first line is the user's error, not ours."""
    container.text("", sagemaker_program="run")
    run = container.tree.code / "run"
    run.write_text("#!/no/such/interpreter\n")
    run.chmod(0o755)
    result = container.run()
    assert result.code == ExitCode.BAD_INPUT
    assert "names an interpreter that is not here: /no/such/interpreter" in result.failure


def test_start_imports_little():
    """What would slow every start down is not imported before the program runs."""
    source = "import sagemaker_byoc.training.entry, sys; print(*sys.modules)"
    command = [sys.executable, "-I", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy = {"asyncio", "logging", "tempfile", "tarfile", "ctypes", "boto3", "numpy", "torch"}
    assert not heavy & set(done.stdout.split())


LARGEST = """import json, os, sys
words = sys.argv[1:]
pairs = dict(zip(words[::2], words[1::2]))
everything = json.loads(os.environ["SM_TRAINING_ENV"])
print(len(pairs), {len(k.encode()) for k in pairs}, {len(v.encode()) for v in pairs.values()})
print(everything["is_master"], "hyperparameters" in everything, len(os.environ["E1"]))
"""


@pytest.mark.parametrize(
    ("entry", "environ", "times"),
    [
        ("train.py", {}, 1),
        ("train.sh", {}, 1),
        pytest.param("train.py", {"BYOC_NPROC": "2"}, 2, marks=pytest.mark.slow),
        pytest.param("train.sh", {"BYOC_NPROC": "2"}, 2, marks=pytest.mark.slow),
        pytest.param("train.py", {"BYOC_TORCHRUN_ARGS": "--nnodes 1"}, 1, marks=pytest.mark.slow),
    ],
)
def test_largest_job(container, entry, environ, times):
    """100 hyperparameters of 256 and 2,500 characters of 4 bytes start with each launcher."""
    names = [f"{number:03}-".ljust(256, "\N{PARTY POPPER}") for number in range(100)]
    container.text(LARGEST, **dict.fromkeys(names, "\N{PARTY POPPER}" * 2500))
    if entry == "train.sh":
        (container.tree.code / "train.py").rename(container.tree.code / "program.py")
        (container.tree.code / entry).write_text(f'{sys.executable} program.py "$@"')
    container.environ = {f"E{number}": "x" * 512 for number in range(100)} | environ
    result = container.run()
    assert result.code == 0, result.failure
    assert result.out.count("100 {1014} {10000}\n") == times
    assert result.out.count("True False 512\n") == times
    [warning] = [line for line in result.err.splitlines() if "left out" in line]
    assert "SM_TRAINING_ENV: hyperparameters, SM_USER_ARGS, SM_HPS" in warning
    assert len(warning) < 1500


@pytest.mark.parametrize("size", [200_000, 30 * 100_000])
def test_arguments_that_are_too_long(container, size):
    """What only a file written by hand can hold is refused under its name, with the sizes."""
    parts = {f"part{number}": "x" * 100_000 for number in range(size // 100_000)}
    container.text("", **(parts if size > 1_000_000 else {"big": "x" * size}))
    result = container.run()
    assert result.code == ExitCode.BAD_INPUT
    assert result.failure.startswith(f"argument '--{'part0' if size > 1_000_000 else 'big'}'")
    assert "are too long to start a program" in result.failure
    assert "file of a channel" in result.failure


@pytest.mark.parametrize(
    ("environ", "hyperparameters", "words"),
    [
        ({}, {"sagemaker_program": "x" * 2000}, "can't be looked at (File name too long)"),
        ({"BYOC_TORCHRUN_ARGS": "--rdzv 'x"}, {}, 'BYOC_TORCHRUN_ARGS: is "--rdzv \'x" (No clos'),
        ({"BYOC_NPROC": "1"}, {"sagemaker_distribution_instance_groups": "[[1]]"}, "names [[1]]"),
    ],
)
def test_settings_that_make_no_sense(container, environ, hyperparameters, words):
    """They are the user's error, named, and not a defect of ours."""
    container.text("", **hyperparameters)
    container.environ = environ
    result = container.run()
    assert result.code == ExitCode.BAD_INPUT
    assert words in result.failure


def test_code_that_can_not_be_read(container, monkeypatch):
    """A folder that is there is not said to hold nothing."""
    container.text("")
    monkeypatch.setattr(Path, "iterdir", Mock(side_effect=PermissionError))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ContractError, match=r"beside the input, which the container's user can't"):
        make_plan(container.job(), {})


def test_names_that_no_variable_can_have(container):
    """A hyperparameter with = in its name is an argument, and a variable under a legal name."""
    container.program("shows_facts.py", **{"a=b": "1", "": "2"})
    given = facts(container.run())
    assert given["argv"][1:] == ["--a=b", "1"]
    assert given["environ"]["SM_HP_A_B"] == "1"


@pytest.mark.parametrize(("given", "seconds"), [({}, "110"), ({SHUTDOWN_TIMEOUT: "7"}, "7")])
def test_torchrun_of_the_users_own_has_the_whole_grace(container, given, seconds):
    """A torchrun in train.sh gets the supervisor's grace period as its own, unless it has one."""
    container.text("")
    assert make_plan(container.job(), given).program.environment[SHUTDOWN_TIMEOUT] == seconds
    torch = find_spec("torch")  # its import would take seconds
    if not torch or not torch.origin:
        pytest.skip("torch is not installed")
    launcher = Path(torch.origin).with_name("distributed") / "launcher" / "api.py"
    assert SHUTDOWN_TIMEOUT in launcher.read_text()


def test_the_users_variables_stay(container):
    """A default of ours gives way to what the user set, and the contract's own names do not."""
    container.text("")
    environ = {"PYTHONUNBUFFERED": "", "SM_MODEL_DIR": "/stale", "PYTHONPATH": "/theirs"}
    given = make_plan(container.job(), environ).program.environment
    assert given["PYTHONUNBUFFERED"] == ""
    assert given["SM_MODEL_DIR"] == str(container.tree.model)
    assert given["PYTHONPATH"] == f"{SITE}:{container.tree.code}:/theirs"
