"""The watch in a program: what it hooks, what it leaves, how it stops, what it never does."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time

import pytest
import torch
from torch import nn

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.pages import templates
from sagemaker_byoc.training.library.watch import report
from sagemaker_byoc.training.library.watch.rules.base import Reading
from sagemaker_byoc.training.library.watch.system import Meter, SystemLines
from sagemaker_byoc.training.library.watch.watch import WatchStop

pytestmark = pytest.mark.slow


def train(model, steps, optimizer=None, rate=0.1):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=rate)
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


def lines(watched):
    text = (watched.settings.folder / "findings.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_files(watched, tmp_path):
    """A line a finding, JSON; a page that says the same; each rule and tensor once."""
    model = nn.Linear(4, 4)
    found = watched(model, rules=["ExplodingTensor"])
    train(model, 3, rate=float("inf"))
    found.close()
    names = [line["tensor"] for line in lines(found)]
    assert len(names) == len(set(names))
    assert "weight" in names
    assert set(lines(found)[0]) >= {"rule", "step", "tensor", "value", "threshold", "advice"}
    page = found.page.read_text()
    assert "1 of 1 rules found something: ExplodingTensor" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_without_jinja2(watched, monkeypatch, capsys):
    """The training goes on, the log says once why there is no page, and findings are written."""

    def missing():
        raise MachineError("the page needs the Python package jinja2", hint="Install it")

    monkeypatch.setattr(templates, "environment", missing)
    found = watched(nn.Linear(4, 4), rules=["ExplodingTensor"])
    train(nn.Linear(4, 4), 3, rate=float("inf"))
    found.close()
    assert lines(found)
    assert not found.page.exists()
    assert capsys.readouterr().err.count("is not written: the page needs the Python package") == 1


@pytest.mark.slow
def test_names_without_the_model(watched):
    """The optimizer's own, else those of the live module, else place and shape."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    found = watched(rules={"VanishingGradient": {"threshold": 1e9}})
    train(model, 1)
    assert {one.tensor for one in found.findings} == {"gradient/0.weight", "gradient/1.weight"}
    alone = torch.ones(2, 3, requires_grad=True)
    found = watched(rules={"VanishingGradient": {"threshold": 1e9}})
    optimizer = torch.optim.SGD([alone])
    alone.sum().backward()
    optimizer.step()
    assert [one.tensor for one in found.findings] == ["gradient/parameter_0_2x3"]


def test_two_optimizers(watched):
    """As in a GAN: the second's tensors carry its number."""
    found = watched(rules={"VanishingGradient": {"threshold": 1e9}})
    first, second = nn.Linear(4, 1), nn.Linear(4, 1)
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (first, second)]
    train(first, 2, optimizers[0])
    train(second, 2, optimizers[1])
    assert {one.tensor for one in found.findings} == {
        "gradient/weight",
        "gradient/optimizer1/weight",
    }


def test_loss_is_the_mean_of_the_steps(watched):
    """Without a line in the program; the unscaled one where there is a scaler."""
    found = watched(rules=["LossNotDecreasing"], save_interval=4)
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for step in range(9):
        optimizer.zero_grad()
        (weight * step).sum().backward()
        optimizer.step()
    assert found.history.losses["train"].points == [(0, 0.0), (4, 2.5), (8, 6.5)]


def test_scaler(watched):
    """Gradient scaling changes neither the loss nor the gradients that are seen."""
    found = watched(rules=["LossNotDecreasing", "VanishingGradient"])
    weight = torch.ones(1, 1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale((weight * 3).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert {value for _, value in found.history.losses["train"].points} == {3.0}
    assert {value for _, row in found.history.gradients[0].points for value in row.values()} == {
        3.0
    }


@pytest.mark.slow
def test_compiled(watched):
    """A compiled model and a compiled optimizer step, without one recompilation for the watch."""
    torch._dynamo.reset()
    counter = torch._dynamo.utils.counters
    counter.clear()
    model = nn.Linear(4, 4)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = watched(rules={"VanishingGradient": {"threshold": 1e9}}, save_interval=2)
    train(compiled, 6, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    assert [one.tensor for one in found.findings] == ["gradient/weight"]
    assert len(found.history.gradients[0].points) == 3
    assert counter["stats"]["unique_graphs"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_step(watched):
    """A compiled optimizer step calls the hook: nothing of the watch is compiled with it."""
    graphs = []
    for has_watch in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        if has_watch:
            found = watched(rules="all")
        model = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        step = torch.compile(optimizer.step, backend="aot_eager")
        for seed in range(6):
            torch.manual_seed(seed)
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            step()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1]
    assert len(found.history.gradients[0].points) == 6


def test_quiet_steps_do_not_look(watched):
    """Between two looks nothing of a tensor is touched: no gradient is read, no value moved."""
    found = watched(rules="all", save_interval=500)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, 12, optimizer)
    with torch.profiler.profile(acc_events=True) as profile:
        optimizer.step()
    with_watch = {event.key: event.count for event in profile.key_averages()}
    found.close()
    with torch.profiler.profile(acc_events=True) as profile:
        optimizer.step()
    without = {event.key: event.count for event in profile.key_averages()}
    assert with_watch == without


def test_stop(watched, tmp_path):
    """The program ends with the reason, after its last checkpoint; the failure file has it too."""
    tree = Tree(tmp_path / "ml")
    tree.output.mkdir(parents=True)
    saved = []
    model = nn.Linear(4, 4)
    watched(
        model, rules=["ExplodingTensor"], action="stop", on_stop=lambda: saved.append("checkpoint")
    )
    with pytest.raises(WatchStop, match="ExplodingTensor at step 0: weight: some values are NaN"):
        train(model, 3, rate=float("nan"))
    assert saved == ["checkpoint"]
    assert tree.failure.read_text().startswith("WatchStop: ExplodingTensor at step 0")


def test_broken_rule(watched, capsys):
    """It is said once, and the training goes on."""
    found = watched(rules=["ExplodingTensor", "AllZero"])
    found.panel.rules[0].tensors = None
    train(nn.Linear(4, 4), 3)
    assert found.panel.broken == {"ExplodingTensor"}
    assert capsys.readouterr().err.count("ExplodingTensor is off") == 1


def test_closing_undoes_everything(watched):
    """Hooks and wrappers."""
    backward = torch.autograd.backward
    found = watched()
    assert torch.autograd.backward is not backward
    found.close()
    assert torch.autograd.backward is backward


def test_no_stall_before_the_first_step(watched):
    """The sampler may look before the first step has been counted."""
    found = watched(rules=["StalledTrainingRule"])
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    assert time.monotonic() - found._begin(optimizer).last_step_at < 60


def test_webhook_that_hangs(watched, monkeypatch, capsys):
    """It is waited for only so long, at the end; the program's steps never wait."""
    monkeypatch.setattr(report, "WEBHOOK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        found = watched(rules=["ExplodingTensor"], webhook=address)
        train(nn.Linear(4, 4), 2, rate=float("nan"))
        found.close()
    assert "the webhook did not take a finding" in capsys.readouterr().err


def test_full_disk(watched, tmp_path, capsys):
    """Findings are in the log all the same, and the training goes on."""
    (tmp_path / "watch").write_text("a file where the folder should be")
    found = watched(rules=["ExplodingTensor"])
    train(nn.Linear(4, 4), 2, rate=float("nan"))
    said = capsys.readouterr().err
    assert "ExplodingTensor at step 0" in said
    assert "findings.jsonl can't be written" in said
    found.close()


@pytest.mark.slow
def test_webhook(watched):
    """One POST for each rule, at its first finding; nothing waits for it."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}/hook"
        found = watched(rules=["ExplodingTensor"], webhook=address)
        train(nn.Linear(4, 4), 2, rate=float("nan"))
        found.close()
        server.shutdown()
        thread.join()
    [one] = received
    assert one["text"].startswith("ExplodingTensor at step 0")
    assert one["tensor"] == "weight"


def test_metrics_reach_the_rules(watched, tmp_path):
    """A validation loss that a program logs is one that the rules see."""
    from sagemaker_byoc.training.library.metrics import Metrics

    found = watched(rules=["Overfit"])
    metrics = Metrics(every=1, file=tmp_path / "metrics.jsonl")
    train(nn.Linear(4, 4), 1)
    metrics.log(1, {"loss": 1.0, "validation:loss": 1.5})
    assert found.history.losses["eval"].points == [(1, 1.5)]


def test_system_lines(tmp_path):
    """Shape: smdebug's sample files, system/incremental/<hour>/<epoch>.<node>.json."""
    lines = SystemLines(tmp_path, "algo-1")
    reading = Reading(
        time=1591160699.5, cpus=[4.76], io_wait=[0.0], gpus=[50.0], gpu_memory=[10.0], memory=30.0
    )
    lines.add(reading)
    [file] = tmp_path.rglob("*.json")
    assert str(file.relative_to(tmp_path)) == "system/incremental/2020060305/1591160699.algo-1.json"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows[0] == {
        "Type": "cpu",
        "Name": "cpu0",
        "Dimension": "CPUUtilization",
        "Value": 4.76,
        "NodeId": "algo-1",
        "Timestamp": 1591160699.5,
    }
    assert {row["Dimension"] for row in rows} >= {"I/OWaitPercentage", "GPUMemoryUtilization"}


def test_meter():
    """Percentages of this very machine."""
    meter = Meter()
    sum(range(200_000))
    reading = meter.read()
    assert reading.cpus
    assert all(-1 <= share <= 101 for share in (*reading.cpus, *reading.io_wait, reading.memory))
