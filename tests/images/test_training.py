"""The training image as SageMaker runs it: started with `train`, stopped with SIGTERM, judged by
its exit code and its failure file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.images.containers import ZOO, Container, MakeContainer

pytestmark = pytest.mark.docker


def trainer(make: MakeContainer, name: str, **details: object) -> Container:
    """A container whose program is one of the zoo's."""
    program = ZOO / "trainers" / f"{name}.py"
    return make("train", "train", files={"/opt/ml/code/train.py": program}, **details)


def failure(container: Container) -> str:
    return (container.read("/opt/ml/output/failure") or b"").decode()


def test_a_stopped_program_saves_its_model(make: MakeContainer) -> None:
    """`docker stop` reaches the program, which saves; its exit code is the container's."""
    container = trainer(make, "saves_on_sigterm").start()
    container.wait_for_log("ready")
    assert container.stop(120) == 7
    assert container.read("/opt/ml/model/model.txt") == b"weights"


def test_the_programs_exit_code_is_the_containers(make: MakeContainer) -> None:
    """Nothing flattens a 3 to a 1; the failure file has what the program said last."""
    container = trainer(make, "exits_3")
    assert container.run() == 3
    assert "the vocabulary has 0 words" in failure(container)


def test_an_exception_is_the_failure_reason(make: MakeContainer) -> None:
    """The failure file begins with the cause, where SageMaker's 1024 characters begin."""
    container = trainer(make, "raises")
    assert container.run() == 1
    assert failure(container).startswith("ValueError: loss is not finite in batch 7")


def test_a_killed_program_ends_with_137(make: MakeContainer) -> None:
    """As under the kernel's out-of-memory killer."""
    container = trainer(make, "killed")
    assert container.run() == 137
    assert failure(container)


def test_orphans_are_reaped(make: MakeContainer) -> None:
    """PID 1 buries what nobody else does, without an init in the image."""
    assert trainer(make, "makes_zombies").run() == 0


def test_a_missing_program_is_said(make: MakeContainer) -> None:
    """Exit code 2, and the log and the failure file both name the places that were searched."""
    container = make("train", "train", options=["--env", "BYOC_PROGRAM_DIR=/opt/nothing"])
    assert container.run() == 2
    assert "there is no code in any of" in container.log
    assert "/opt/nothing" in failure(container)


def test_train_on_the_path_is_the_entry_point(make: MakeContainer) -> None:
    """The command `train` works in a shell's place, too, and keeps exit code and PID."""
    program = ZOO / "trainers" / "exits_3.py"
    files = {"/opt/ml/code/train.py": program}
    container = make("train", files=files, options=["--entrypoint", "train"])
    assert container.run() == 3


def test_any_uid_may_train_where_it_may_write(make: MakeContainer, tmp_path: Path) -> None:
    """Root isn't needed: a folder of its own under /opt/ml is."""
    program = tmp_path / "train.py"
    program.write_text(
        "import os, pathlib, torch\n"
        "torch.save(torch.ones(2), os.environ['SM_MODEL_DIR'] + '/model.pt')\n"
        "assert os.getuid() == 12345\n"
    )
    container = make("train", "train", files={"/opt/ml/code/train.py": program}, user=12345)
    assert container.run() == 0
    assert container.read("/opt/ml/model/model.pt")
