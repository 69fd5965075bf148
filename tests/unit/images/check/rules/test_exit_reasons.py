"""What a container's log says of its end: the image's fault, or maybe only missing data."""

from __future__ import annotations

import pytest

from sagemaker_byoc.images.check.check import SERVING, TRAINING
from sagemaker_byoc.images.check.findings import Finding, apply
from sagemaker_byoc.images.check.trials.serving import ServingTrial
from sagemaker_byoc.images.check.trials.training import Job, TrainingTrial


def traceback(last: str, *, after: str = "", inside: str = "    run()") -> str:
    return f"""Traceback (most recent call last):
  File "/opt/train.py", line 3, in <module>
{inside}
{last}
{after}"""


BROKEN = {
    "no module": (traceback("ModuleNotFoundError: No module named 'yaml.x'"), 1, "add pyyaml to"),
    "no library": (
        traceback(
            "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
        ),
        1,
        "libGL.so.1",
    ),
    "no library, ctypes": (
        traceback("OSError: libgomp.so.1: cannot open shared object file: No such file"),
        1,
        "libgomp.so.1",
    ),
    "old glibc": (
        traceback("ImportError: /lib/libc.so.6: version `GLIBC_2.38' not found (required by x)"),
        1,
        "newer distribution",
    ),
    "wrong version": (
        traceback("ImportError: cannot import name 'x' from 'y' (/opt/y.py)"),
        1,
        "pip check",
    ),
    "wrapped": (
        traceback("RuntimeError: Failed to import x because of: No module named 'einops'"),
        1,
        "einops",
    ),
    "of a rank": (
        "[rank1]: Traceback (most recent call last):\n"
        "[rank1]: ModuleNotFoundError: No module named 'yaml'\n"
        + traceback("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: "),
        1,
        "yaml",
    ),
    "with the supervisor's words": (
        traceback(
            "ModuleNotFoundError: No module named 'yaml'",
            after="byoc: the program failed: ModuleNotFoundError: No module named 'yaml'",
        ),
        1,
        "yaml",
    ),
    "gunicorn": (
        traceback("ModuleNotFoundError: No module named 'wsgi'")
        + "[2026-11-29 18:18:44 +0000] [7] [INFO] Worker exiting (pid: 7)\n"
        + traceback("gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>"),
        3,
        "wsgi",
    ),
    "gunicorn's log": (
        "\nError: Error: '/var/log/web/a.log' isn't writable [FileNotFoundError(2, 'No such')]\n",
        1,
        "mkdir -p",
    ),
    "log folder": (
        traceback("FileNotFoundError: [Errno 2] No such file or directory: '/var/log/web/a.log'"),
        1,
        "mkdir -p",
    ),
    "nginx": (
        'nginx: [emerg] open() "/var/log/web/a.log" failed (2: No such file or directory)\n',
        1,
        "mkdir -p",
    ),
    "dash": ("sh: 1: cannot create /var/log/web/a.log: Directory nonexistent", 2, "mkdir -p"),
    "no right": (
        traceback("PermissionError: [Errno 13] Permission denied: '/var/log/x'"),
        1,
        "USER",
    ),
    "no nginx": (
        traceback(
            "FileNotFoundError: [Errno 2] No such file or directory: 'nginx'",
            inside="    self._execute_child(args, executable, preexec_fn, close_fds,",
        ),
        1,
        "nginx",
    ),
    "no script": ("python3: can't open file '/opt/x.py': [Errno 2] No such file", 2, "/opt/x.py"),
    "python -m": ("/usr/bin/python3: No module named train", 1, "requirements.txt"),
    "R": (
        "Error in library(caret) : there is no package called \u2018caret\u2019\nhalted\n",
        1,
        "install.packages",
    ),
    "node": ("Error: Cannot find module 'express'\nRequire stack:\n- /opt/x.js", 1, "npm"),
    "bash": ("start.sh: line 2: /var/log/web/a.log: No such file or directory", 1, "mkdir -p"),
    "java": ("Error: Unable to access jarfile /opt/x.jar", 1, "/opt/x.jar"),
    "ruby": ("x.rb:1:in `require': cannot load such file -- sinatra (LoadError)", 1, "gem install"),
    "perl": ("Can't locate JSON/XS.pm in @INC (you may need to install it)", 2, "JSON/XS.pm"),
    "julia": ("ERROR: ArgumentError: Package Flux not found in current path.", 1, "Pkg.add"),
    "uvicorn": ('ERROR:    Error loading ASGI app. Could not import module "main".', 1, "WORKDIR"),
    "no application": ("Failed to find attribute 'app' in 'wsgi'.", 4, "WORKDIR"),
    "numpy": (traceback("ValueError: numpy.dtype size changed, may indicate"), 1, "pip check"),
    "old name": (traceback("AttributeError: module 'numpy' has no attribute 'bool'."), 1, "pins"),
    "child of another machine": (
        traceback("OSError: [Errno 8] Exec format error: '/opt/tool'"),
        1,
        "linux/amd64",
    ),
    "syntax": (traceback("SyntaxError: invalid syntax"), 1, "Python"),
    "illegal": ("", 132, "x86-64"),
    "illegal, of a child": ("start.sh: line 3:    12 Illegal instruction  ./x\n", 1, "x86-64"),
    "killed": ("", 137, "memory"),
    "killed, of a child": ("start.sh: line 3:    12 Killed      python3 train.py", 1, "memory"),
    "died with": (
        traceback("subprocess.CalledProcessError: Command 'x' died with <Signals.SIGKILL: 9>."),
        1,
        "memory",
    ),
    "segmentation fault": ("", 139, "belong together"),
}
NOT_STARTED = {
    "exec format": ("exec /opt/run: exec format error\n", 1, "byoc check"),
    "CR LF": ("exec /opt/run: no such file or directory\n", 1, "byoc check"),
    "ld.so": (
        "x: error while loading shared libraries: libcudart.so.12: cannot open shared object\n",
        127,
        "libcudart.so.12",
    ),
    "musl": (
        "Error loading shared library libgcc_s.so.1: No such file or directory (needed by x)",
        127,
        "apk add",
    ),
}
MAYBE_DATA = {
    "no data": traceback("FileNotFoundError: [Errno 2] No such file or directory: '/opt/ml/x.csv'"),
    "bash": "start.sh: line 2: /opt/ml/input/data/train/x.csv: No such file or directory\n",
    "relative": traceback("FileNotFoundError: [Errno 2] No such file or directory: 'x.csv'"),
    "its own words": traceback("ValueError: there is no data in /opt/ml/input/data/train"),
    "no key": traceback("KeyError: 'SM_CHANNEL_TRAIN'"),
    "no driver": traceback("ImportError: libcuda.so.1: cannot open shared object file: No such"),
    "no GPU": traceback("RuntimeError: Found no NVIDIA driver on your system."),
    "optional module": "Triton is not available: No module named 'triton'\nno data\n",
    "optional library": "dlerror: libnvinfer.so.7: cannot open shared object file\nno data\n",
    "handled before": traceback("ModuleNotFoundError: No module named 'x'")
    + traceback("ValueError: no data"),
    "nothing": "",
    "words": "the model will be Killed here\n",
}


def of_training(log: str, code: int | None, failure: bytes | None = None) -> list[Finding]:
    job = Job(exit_code=code, log=log, failure=failure)
    found = apply(TRAINING, TrainingTrial(tiny=job), {})
    return [finding for finding in found if failure is not None or finding.id != "TRN003"]


def of_serving(log: str, code: int | None, *, model: bool = False) -> list[Finding]:
    trial = ServingTrial(exit_code=code, log=log, with_model=model)
    wanted = {"SRV001", "SRV002", "SRV022", "SRV023"}
    return [finding for finding in apply(SERVING, trial, {}) if finding.id in wanted]


@pytest.mark.parametrize("name", BROKEN)
def test_what_the_image_lacks_is_an_error_with_its_cause(name):
    log, code, fix = BROKEN[name]
    for found, rule in (
        (of_training(log, code), "TRN010"),
        (of_serving(log, code), "SRV023"),
        (of_serving(log, code, model=True), "SRV023"),
    ):
        (finding,) = found
        assert (finding.id, finding.severity) == (rule, "error")
        assert fix in finding.fix


@pytest.mark.parametrize("name", NOT_STARTED)
def test_what_can_not_be_started_is_an_error_with_its_cause(name):
    log, code, fix = NOT_STARTED[name]
    for (finding,), rule in ((of_training(log, code), "TRN001"), (of_serving(log, code), "SRV001")):
        assert (finding.id, finding.severity) == (rule, "error")
        assert log.strip()[:40] in finding.what
        assert fix in finding.fix


@pytest.mark.parametrize("name", MAYBE_DATA)
def test_what_may_be_for_want_of_data_or_a_model_is_a_warning(name):
    log = MAYBE_DATA[name]
    for (finding,), rule in ((of_training(log, 1), "TRN002"), (of_serving(log, 1), "SRV022")):
        assert (finding.id, finding.severity) == (rule, "warning")


def test_a_program_that_never_ran_is_not_asked_for_a_failure_file():
    log = NOT_STARTED["exec format"][0]
    assert [finding.id for finding in of_training(log, 1, b"")] == ["TRN001"]
    assert [finding.id for finding in of_training("", 1, b"")] == ["TRN002", "TRN003"]


def test_the_last_words_of_a_program_count_without_the_exceptions_name():
    """Those of one that runs on may be a warning about something optional."""
    log = "loading\nFailed: No module named 'cv2'\n"
    assert [finding.id for finding in of_training(log, 1)] == ["TRN010"]
    assert [finding.id for finding in of_serving(log, 1)] == ["SRV023"]
    assert [finding.id for finding in of_serving(log, None)] == ["SRV022"]


def test_a_server_that_runs_on_without_its_module_is_an_error():
    (finding,) = of_serving(BROKEN["no module"][0], None)
    assert (finding.id, "No module named 'yaml.x'" in finding.what) == ("SRV023", True)


def test_the_failure_file_counts_if_the_log_says_nothing():
    (finding,) = of_training("", 1, b"ModuleNotFoundError: No module named 'yaml'")
    assert finding.id == "TRN010"


def test_a_job_that_works_or_runs_on_has_no_cause():
    log = BROKEN["no module"][0]
    assert [finding.id for finding in of_training(log, 0)] == ["TRN005"]
    assert of_training(log, None) == []
