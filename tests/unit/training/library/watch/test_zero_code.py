"""A job that asks for the watch: the real `train`, and a script that knows nothing of it."""

from __future__ import annotations

import json
import os
import signal

import pytest
from tests.unit.training.supervisor import conftest
from tests.unit.training.supervisor.conftest import container, wait_until  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Several processes import torch."""
    monkeypatch.setattr(conftest, "SILENCE_SECONDS", 120)


SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
for step in range(STEPS):
    optimizer.zero_grad()
    model(torch.randn(16, 8)).square().mean().backward()
    optimizer.step()
    print("step", step)
"""


LOADED = "'sagemaker_byoc.training.library.watch.attach' in sys.modules"


def script(rate, steps=30):
    return SCRIPT.replace("RATE", str(rate)).replace("STEPS", str(steps))


def findings(container):  # noqa: F811
    file = container.tree.output_data / "watch" / "findings.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_findings_in_the_log(container):  # noqa: F811
    """By a hyperparameter: lines in the log when it happens, a file, a page, and it goes on."""
    container.text(script(1e6), sagemaker_byoc_watch='{"save_interval": 5}')
    result = container.run()
    assert (result.code, result.out.count("step")) == (0, 30)
    assert "byoc watch: ExplodingTensor at step" in result.err
    assert "ExplodingTensor" in {one["rule"] for one in findings(container)}
    page = container.tree.output_data / "watch" / "report.html"
    assert "ExplodingTensor" in page.read_text()


@pytest.mark.slow
def test_stop_is_the_reason(container):  # noqa: F811
    """The rule's sentence is what SageMaker shows."""
    given = json.dumps({"rules": ["ExplodingTensor"], "save_interval": 1, "action": "stop"})
    container.text(script(1e6), sagemaker_byoc_watch=given)
    result = container.run()
    assert result.code == 1
    assert result.failure.startswith("WatchStop: ExplodingTensor at step")
    assert "Lower the learning rate" in result.failure


@pytest.mark.slow
def test_stall_ends_the_job(container):  # noqa: F811
    """AWS's own parameter of the rule; the reason is its sentence."""
    rules = {"StalledTrainingRule": {"threshold": "1", "stop_training_on_fire": "true"}}
    container.text(
        script(0.1, steps=3) + "import time; time.sleep(600)",
        sagemaker_byoc_watch=json.dumps({"rules": rules}),
    )
    result = container.run()
    assert result.code != 0
    assert result.failure.startswith("WatchStop: StalledTrainingRule at step 0: training: no step")


@pytest.mark.slow
def test_debugger_config_is_enough(container):  # noqa: F811
    """A request with DebugHookConfig; the user's own sitecustomize still runs."""
    container.text(script(1e6))
    (container.tree.code / "sitecustomize.py").write_text("print('own site')")
    container.config("debughookconfig", {"HookParameters": {"save_interval": "5"}})
    result = container.run()
    assert "own site" in result.out
    assert "byoc watch: ExplodingTensor" in result.err


@pytest.mark.slow
def test_program_that_imports_the_library_before_torch(container):  # noqa: F811
    """As sorted imports do: the watch is on all the same."""
    names = ("StopFlag", "Checkpointer", "Profile", "watch")
    container.text(
        "import importlib, os, sys\n"
        f"for name in {names}:\n"
        "    if os.fork() == 0:\n"
        "        getattr(importlib.import_module('sagemaker_byoc.training'), name)\n"
        "        attach = importlib.import_module(\n"
        "            'sagemaker_byoc.training.library.watch.attach')\n"
        "        print(name, attach.current_watch() is not None, flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()",
        sagemaker_byoc_watch="1",
    )
    result = container.run()
    assert result.out.splitlines() == [f"{name} True" for name in names]
    assert "byoc watch: off" not in result.err


def test_not_asked(container):  # noqa: F811
    """Nothing of it is in the program."""
    container.text(f"import os, sys, torch; print(os.environ.get('BYOC_WATCH'), {LOADED})")
    assert container.run().out == "None False\n"


def test_switched_off(container):  # noqa: F811
    """By the variable, though the request has a hook config."""
    container.environ["BYOC_WATCH"] = "0"
    container.config("debughookconfig", {})
    container.text(f"import sys, torch; print({LOADED})")
    assert container.run().out == "False\n"


@pytest.mark.slow
def test_wrong_settings_cost_the_watch_only(container):  # noqa: F811
    """The log says what is wrong, and the training runs."""
    container.text(script(0.1, steps=2), sagemaker_byoc_watch="NoSuchRule")
    result = container.run()
    assert result.code == 0
    assert "watch: rule 'NoSuchRule': does not exist. Name one of" in result.err


@pytest.mark.slow
def test_killed(container):  # noqa: F811
    """kill -9 leaves whole lines."""
    text = script(1e6, steps=100_000).replace("print(", "import os; print(os.getpid(), ")
    container.text(text, sagemaker_byoc_watch='{"save_interval": 1}')
    running = container.start()
    file = container.tree.output_data / "watch" / "findings.jsonl"
    wait_until(lambda: file.exists() and " step" in running.out(), "a finding")
    [line, *_] = [line for line in running.out().splitlines() if " step" in line]
    os.kill(int(line.split()[0]), signal.SIGKILL)
    running.result()
    assert findings(container)


DDP = """
import os, torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())
model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)))
optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
for step in range(12):
    optimizer.zero_grad()
    model(torch.randn(16, 8)).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_ranks(container):  # noqa: F811
    """Two processes under DDP: all rules on rank 0, one on the other; names without `module.`."""
    container.environ["BYOC_NPROC"] = "2"
    container.text(DDP, sagemaker_byoc_watch='{"save_interval": 2}')
    result = container.run()
    assert result.code == 0, result.err
    assert {"gradient/0.weight", "0.weight"} & {one["tensor"] for one in findings(container)}
    other = container.tree.output_data / "watch" / "findings-rank-1.jsonl"
    rules = {json.loads(line)["rule"] for line in other.read_text().splitlines()}
    assert rules == {"ExplodingTensor"}
