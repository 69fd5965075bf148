"""What people train with, as released: each framework's own loop, started, failed and stopped.

The programs are in the folder frameworks, their packages in an environment of their own:
BYOC_FRAMEWORKS=$(scripts/frameworks-env FOLDER). Two of them run at a time.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.training.supervisor.conftest import Container

from sagemaker_byoc.contract.paths import Tree

FRAMEWORKS = os.environ.get("BYOC_FRAMEWORKS", "")
PROGRAMS = Path(__file__).with_name("frameworks")
SOURCE = Path(__file__).parents[2] / "src"
DEADLINE = 240
"""Seconds for a program on a busy machine; alone on it the slowest needs ten."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FRAMEWORKS, reason="BYOC_FRAMEWORKS: what scripts/frameworks-env made"),
]

RAISED = "ValueError: loss is not finite last batch: 7\n"
SAID = "data set too small\n"
TERM = "stopped by SIGTERM: the program ended by SIGTERM\n"

# (program, how it ends, ranks): exit code, beginning of the failure text (None: no failure file).
# "wait" that ends with 0 has saved a model after SIGTERM, so that "" would show nothing more.
CASES = {
    ("transformers_trainer.py", "raise", 2): (1, RAISED),
    ("transformers_trainer.py", "exit", 1): (3, SAID),
    ("transformers_trainer.py", "wait", 2): (0, None),
    ("lightning_trainer.py", "", 2): (0, None),
    ("lightning_trainer.py", "raise", 2): (1, RAISED),
    ("lightning_trainer.py", "exit", 1): (3, SAID),
    ("lightning_trainer.py", "wait", 1): (0, None),
    ("accelerate_loop.py", "", 2): (0, None),
    ("accelerate_loop.py", "raise", 2): (1, RAISED),
    ("accelerate_launch.sh", "", 2): (0, None),
    ("accelerate_launch.sh", "raise", 2): (1, RAISED),
    ("accelerate_launch.sh", "exit", 1): (1, SAID),
    ("accelerate_launch.sh", "wait", 1): (143, TERM),
    ("torchrun_launch.sh", "", 2): (0, None),
    ("torchrun_launch.sh", "raise", 2): (1, RAISED),
    ("torchrun_launch.sh", "exit", 2): (1, SAID),
    ("torchrun_launch.sh", "wait", 2): (143, TERM),
    ("torch_loop.py", "wait", 2): (0, None),
    ("ignite_engine.py", "raise", 1): (1, RAISED),
    ("ignite_engine.py", "exit", 1): (3, "Engine run is terminating due to exception: 3\n"),
    ("ignite_engine.py", "wait", 1): (0, None),
    ("xgboost_train.py", "raise", 1): (1, RAISED),
    ("xgboost_train.py", "exit", 1): (3, SAID),
    ("xgboost_train.py", "wait", 1): (0, None),
    ("lightgbm_train.py", "", 1): (0, None),
    ("lightgbm_train.py", "raise", 1): (1, RAISED),
    ("lightgbm_train.py", "wait", 1): (143, TERM),
    ("sklearn_joblib.py", "", 1): (0, None),
    ("sklearn_joblib.py", "raise", 1): (1, RAISED),
    ("datasets_map.py", "", 1): (0, None),
    ("datasets_map.py", "raise", 1): (1, RAISED),
    **{
        (f"{name}_app.py", how, 1): ends
        for name in ("hydra", "typer", "click", "fire", "jsonargparse")
        for how, ends in {
            "": (0, None),
            "raise": (1, RAISED),
            "exit": (3, SAID),
            "wait": (143, TERM),
        }.items()
    },
}
BAD_PARAMETERS = {
    ("typer_app.py", "lr", "a"): "Error: Invalid value for '--lr': Input should be a valid number",
    ("typer_app.py", "lrr", "1"): "Error: No such option: --lrr",
    ("click_app.py", "lr", "a"): "Error: Invalid value for '--lr': 'a' is not a valid float.",
    ("fire_app.py", "lrr", "1"): "ERROR: Could not consume arg: --lrr",
    ("jsonargparse_app.py", "lr", "a"): 'error: Parser key "lr": Expected a',
    ("jsonargparse_app.py", "lrr", "1"): "error: unrecognized arguments: --lrr 1",
}


class Trial:
    """One program under the supervisor, from its start to its end."""

    def __init__(self, folder, program, how="", ranks=1, **parameters):
        folder.mkdir(parents=True)
        self.tree = Tree(folder / "ml")
        self.tree.root.mkdir()
        python = f"{FRAMEWORKS}/bin/python"
        container = Container(
            folder, self.tree, command=(python, "-P", "-m", "sagemaker_byoc.training")
        )
        self.tree.code.mkdir(parents=True)
        for file in PROGRAMS.iterdir():
            if file.is_file():
                (self.tree.code / file.name).write_bytes(file.read_bytes())
        container.config("hyperparameters", parameters)
        container.environ |= {
            "PATH": f"{FRAMEWORKS}/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(SOURCE),
            "SAGEMAKER_PROGRAM": program,
            "HOW": how,
            "RANKS": str(ranks),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "HOME": str(folder),
        }
        if ranks > 1 and not program.endswith(".sh"):
            container.environ["BYOC_NPROC"] = str(ranks)
        self.running = container.start()
        try:
            self._end(how)
        finally:
            if self.running.process.poll() is None:
                self.running.process.kill()
                self.running.process.wait()

    def _end(self, how):
        deadline = time.monotonic() + DEADLINE
        while how == "wait" and "ready\n" not in self.running.out():
            assert self.running.process.poll() is None, "it ended before it was ready"
            assert time.monotonic() < deadline, "it was never ready"
            time.sleep(0.05)
        if how == "wait":
            self.running.process.send_signal(signal.SIGTERM)
        self.code = self.running.process.wait(deadline - time.monotonic())
        failure = self.tree.failure
        self.failure = failure.read_text() if failure.exists() else None
        self.files = [file for file in self.tree.model.rglob("*") if file.is_file()]
        self.log = self.running.out() + (self.running.folder / "err").read_text()


@pytest.fixture(scope="module")
def trials(request, tmp_path_factory):
    """The trials of all selected cases, which run in the background, two at a time."""
    chosen = [
        item.callspec.params["case"]
        for item in request.session.items
        if getattr(item, "originalname", "") == test_end.__name__ and item.path == Path(__file__)
    ]
    folder = tmp_path_factory.mktemp("trials")
    with ThreadPoolExecutor(2) as pool:
        yield {
            case: pool.submit(Trial, folder / f"{number}", *case)
            for number, case in enumerate(chosen)
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_end(trials, case):
    """The exit code, the cause in the failure text, and a model where the training ended well."""
    trial = trials[case].result()
    code, reason = CASES[case]
    assert trial.code == code, trial.log[-3000:]
    if reason is None:
        assert trial.failure is None
        assert trial.files
    else:
        assert trial.failure.startswith(reason)
        assert ("ending.py:" in trial.failure) == (reason == RAISED)


@pytest.mark.parametrize("case", BAD_PARAMETERS, ids="-".join)
def test_bad_parameter(tmp_path, case):
    """The command line's own message is the cause, without the usage around it."""
    program, name, value = case
    trial = Trial(tmp_path / "trial", program, **{name: value})
    assert trial.code == 2
    assert trial.failure.startswith(BAD_PARAMETERS[case])
    assert "\nbad hyperparameter: " in trial.failure
