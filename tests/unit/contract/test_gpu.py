"""A GPU that can't be used is found before the program starts. Seen on made-up files only."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass

import pytest

from sagemaker_byoc.contract import gpu, machine
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.lifecycle import ExitCode

CUDA_12 = "__version__ = '2.10.0+cu128'\ncuda: Optional[str] = '12.8'\n"
CUDA_13 = "__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n"
CPU = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n"


@dataclass
class Host:
    """The driver's version, the number of device files, and the job's instance type."""

    driver: str = ""
    devices: int = 0
    kind: str = ""
    wording: str = "x86_64 Kernel Module  {}.03  Tue Jul  4"
    also: tuple[str, ...] = ()
    """Other files of the machine or the image."""

    def write(self, root):
        (root / "dev").mkdir(parents=True)
        for number in range(self.devices):
            (root / "dev" / f"nvidia{number}").touch()
        if self.driver:
            path = root / machine.DRIVER.relative_to("/")
            path.parent.mkdir(parents=True)
            path.write_text(f"NVRM version: NVIDIA UNIX {self.wording.format(self.driver)}\n")
        for name in self.also:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()


TEGRA = "Open Kernel Module for aarch64  {}.0  Release Build  (buildbrain@mobile)"
OPEN = "Open Kernel Module for x86_64  {}.05  Release Build"


@pytest.fixture
def check(tmp_path):
    """Check a host with this torch in the image."""

    def run(host, torch, *, allowed=False, environ=()):
        host.write(tmp_path / "root")
        if torch is not None:
            (tmp_path / "torch").mkdir()
            (tmp_path / "torch/version.py").write_text(torch)
        return gpu.check_gpus(
            dict(environ),
            host.kind,
            allowed=allowed,
            root=tmp_path / "root",
            folders=[str(tmp_path / "absent"), str(tmp_path)],
        )

    return run


@pytest.mark.parametrize(
    ("host", "torch", "words"),
    [
        (
            Host("470.256", 1, "ml.g5.xlarge"),
            CUDA_12,
            "driver of ml.g5.xlarge is 470.256, and CUDA 12.8 of torch 2.10.0+cu128 needs 525.60",
        ),
        (
            Host("535.104", 1),
            CUDA_13,
            "is 535.104, and CUDA 13.0 of torch 2.13.0+cu130 needs 580.65",
        ),
        (Host("535.104", 1), CUDA_13, "a build of torch for CUDA 12"),
        (Host("580.60", 8, "local", OPEN), CUDA_13, "needs 580.65"),
        (Host("418.87", 1), CUDA_12, "a CPU build of torch"),
        (Host("470.256", 0, "ml.p4d.24xlarge"), CUDA_12, "the NVIDIA driver of ml.p4d.24xlarge"),
        (Host("470.182", 1, wording="GRID x86_64 Kernel Module  {}"), CUDA_12, "is 470.182"),
    ],
)
def test_refused_with_both_versions_and_the_hint(check, host, torch, words):
    with pytest.raises(ContractError) as caught:
        check(host, torch)
    assert words in str(caught.value)
    assert "BYOC_ALLOW_CPU=1" in str(caught.value)


COMPAT = ("usr/local/cuda-12.8/compat/libcuda.so.1", "opt/conda/cuda-compat/libcuda.so.570.86")


@pytest.mark.parametrize(
    ("also", "environ"),
    [
        ((), None),
        (COMPAT[:1], {}),
        (COMPAT[1:], {"LD_LIBRARY_PATH": "/usr/lib:/opt/conda/cuda-compat"}),
    ],
)
def test_allowed_with_a_line(check, also, environ):
    """By the user, or because the image brings NVIDIA's forward compatibility package."""
    host = Host("470.256", 1, also=also)
    line = check(host, CUDA_12, allowed=environ is None, environ=environ or {})
    assert line.startswith("warning: GPU: the NVIDIA driver of this machine is 470.256")


@pytest.mark.parametrize(
    ("host", "environ", "words"),
    [
        (Host("580.95", 0), {}, "this machine has NVIDIA GPUs, and none is visible in this"),
        (Host("470.256", 0, "local"), {}, "If the program is to use one, start it with --gpus all"),
        (Host("470.256", 0), {"NVIDIA_VISIBLE_DEVICES": "all"}, "none is visible"),
        (Host("470.256", 0), {"NVIDIA_VISIBLE_DEVICES": "void"}, "none is visible"),
        (Host(kind="ml.p4d.24xlarge"), {}, "ml.p4d.24xlarge has NVIDIA GPUs, and none is"),
        (Host("535.54", 1), {"CUDA_VISIBLE_DEVICES": "3"}, "with CUDA_VISIBLE_DEVICES=3"),
        (Host("470.256", 1), {"CUDA_VISIBLE_DEVICES": "3"}, "with CUDA_VISIBLE_DEVICES=3"),
    ],
)
def test_a_container_without_a_gpu_is_not_refused(check, host, environ, words):
    """A pod that asked for none, `docker run` without --gpus: both see the host's driver."""
    line = check(host, CUDA_12, environ=environ)
    assert line.startswith("warning: GPU: ")
    assert words in line


@pytest.mark.parametrize(
    ("host", "environ", "hint"),
    [
        (Host(kind="ml.g5.xlarge"), {}, "Build the image with TORCH=cuda12, or"),
        (Host("580.95", 2, wording=OPEN), {}, "Build the image with TORCH=cuda12, or"),
        (Host("580.95", 2), {"BYOC_INSTALLER": "pip install"}, "Install torch's build for CUDA"),
    ],
)
def test_a_cpu_build_is_named_and_runs(check, host, environ, hint):
    """The program may use the GPUs with another library than torch. A process has no image."""
    line = check(host, CPU, environ=environ)
    assert f"torch 2.13.0+cpu was built without CUDA. {hint}" in line


OLD = Host("470.256", 1)


@pytest.mark.parametrize(
    ("host", "torch", "environ"),
    [
        (Host("535.54", 1, "ml.g5.xlarge"), CUDA_12, {}),
        (Host("580.95", 1, "ml.g6.xlarge", OPEN), CUDA_13, {}),
        (Host("", 1, "ml.g6.xlarge"), CUDA_13, {}),  # a sandbox that hides the driver's file
        (Host("x", 1), CUDA_13, {}),
        (Host(), CUDA_12, {}),
        (Host(kind="local_gpu"), CUDA_12, {}),
        (Host(kind="ml.g5.xlarge"), None, {}),  # without torch nobody knows what is wanted
        (Host("470.256"), CPU, {}),
        (Host("470.256", 0, "ml.m5.large"), CUDA_12, {}),
        (Host("470.256", 1, "ml.inf2.xlarge"), CUDA_12, {}),
        (OLD, CUDA_12, {"CUDA_VISIBLE_DEVICES": ""}),
        (OLD, CUDA_12, {"CUDA_VISIBLE_DEVICES": "-1"}),
        (OLD, CUDA_12, {"NVIDIA_VISIBLE_DEVICES": "none"}),
        (Host("999.99", 1), CUDA_13.replace("13.0", "99.0"), {}),
        (
            Host("580.65", 1, "ml.p6-b200.48xlarge", "Open Kernel Module for x86_64  {}.06"),
            CUDA_13,
            {},
        ),
        (Host("570.86", 1, "ml.trn2.48xlarge"), CUDA_13, {}),
        (Host("", 0, also=("dev/dxg",)), CUDA_12, {}),  # WSL 2
        (Host("", 0, "ml.g5.xlarge", also=("dev/dxg",)), CUDA_12, {}),
        (Host("540.4", 1, wording=TEGRA, also=("dev/nvgpu",)), CUDA_13, {}),  # Jetson
        (Host("35.4", 1, wording=TEGRA), CUDA_12, {}),
        (OLD, CUDA_12, {"CUDA_VISIBLE_DEVICES": "none"}),
        (OLD, CUDA_12, {"CUDA_VISIBLE_DEVICES": "0,0"}),
        (Host("535.54", 1), CUDA_12, {"NVIDIA_VISIBLE_DEVICES": "MIG-1,MIG-2"}),
        (Host("535.54", 1), CUDA_12, {"CUDA_VISIBLE_DEVICES": "MIG-1"}),
        (Host("535.161", 1, wording="GRID x86_64 Kernel Module  {}.07"), CUDA_12, {}),  # vGPU
    ],
)
def test_nothing_to_say(check, host, torch, environ):
    assert check(host, torch, environ=environ) == ""


def test_a_listed_gpu_does_not_hide_an_old_driver(check):
    with pytest.raises(ContractError, match="470"):
        check(OLD, CUDA_12, environ={"CUDA_VISIBLE_DEVICES": "0"})


PROGRAM = """
import sys
from sagemaker_byoc.contract import gpu
gpu.find_torch = lambda folders: gpu.Torch("2.10.0+cu128", (12, 8))
gpu.driver_version = lambda root: (470, 256)
gpu.visible_gpus = lambda *looked_at: ("0",)
from sagemaker_byoc.{module} import main
sys.argv[1:] = ["{argument}"]
sys.exit(main())
"""
"""A command of the images in a container with a GPU whose driver is too old."""


@pytest.fixture
def command(tmp_path):
    """Run a command of the images there; its exit code and log."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/train.py").write_text("print('started')")

    def run(module, argument, **environ):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(module=module, argument=argument)],
            env={"SAGEMAKER_BASE_DIR": str(tmp_path), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    return run


OLD_DRIVER = "GPU: the NVIDIA driver of this machine is 470.256, and CUDA 12.8"


@pytest.mark.slow
def test_a_job_ends_before_its_program(command, tmp_path):
    """With the code of a wrong input, and with the reason in the failure file."""
    code, log = command("training.entry", "train")
    assert (code, OLD_DRIVER in log, "started" in log) == (ExitCode.BAD_INPUT, True, False)
    assert "needs 525.60 or newer" in (tmp_path / "output/failure").read_text()


@pytest.mark.slow
def test_a_job_may_be_told_to_run_on_the_cpu(command):
    code, log = command("training.entry", "train", BYOC_ALLOW_CPU="1")
    assert (code, f"warning: {OLD_DRIVER}" in log, "started" in log) == (ExitCode.OK, True, True)


@pytest.mark.slow
def test_a_server_ends_before_it_answers(command):
    """An endpoint whose container ends is Failed; a port that answers 503 would be waited for."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    code, log = command("serving.serve", "serve", SAGEMAKER_BIND_TO_PORT=str(port))
    assert (code, OLD_DRIVER in log) == (ExitCode.BAD_INPUT, True), log
