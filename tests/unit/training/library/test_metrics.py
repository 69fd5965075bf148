import functools
import io
import json
import re

import numpy as np
import pytest
import torch

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.training.runs import parse_line
from sagemaker_byoc.training.library import metrics as library
from sagemaker_byoc.training.library.metrics import Metrics


@pytest.fixture
def stream():
    """The log."""
    return io.StringIO()


@pytest.fixture
def file(tmp_path):
    """The copy."""
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def make(stream, file):
    return functools.partial(Metrics, file=file, stream=stream)


def rows(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line_an_interval_and_a_record_a_step(make, stream, file):
    """The line has the interval's last values, and the file all of them."""
    metrics = make(every=3)
    for step in range(1, 8):
        metrics.log(step, {"loss": torch.tensor(1.0 / step), "lr": 0.5})
    metrics.close()
    lines = [parse_line(line) for line in stream.getvalue().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert lines[1]["loss"] == pytest.approx(1 / 6)
    assert [row["step"] for row in rows(file)] == list(range(1, 8))
    assert rows(file)[3]["loss"] == pytest.approx(0.25)


def test_values_are_copied_when_they_are_logged(make, file):
    """A CUDA graph writes the next step's loss into the same memory."""
    metrics = make(every=2)
    loss = torch.tensor(1.0)
    metrics.log(1, {"loss": loss})
    loss.fill_(2.0)
    metrics.log(2, {"loss": loss})
    assert [row["loss"] for row in rows(file)] == [1.0, 2.0]


def test_tensors_are_read_once_an_interval(make, monkeypatch):
    """Each read of a value on a GPU waits for it."""
    reads = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: reads.append(1) or tolist(self))
    metrics = make(every=5)
    for step in range(1, 11):
        metrics.log(
            step, {"loss": torch.ones(1, requires_grad=True) * step, "norm": torch.ones(())}
        )
    assert len(reads) == 2


def test_rates_waits_and_counters_are_those_of_the_interval(make, stream):
    """What grew elsewhere is in the line by how much it grew."""
    total = [5.0]
    metrics = make(every=2, counters={"checkpoint_block_ms": lambda: total[0]})
    for step, _ in enumerate(metrics.waiting([10, 20, 30, 40]), 1):
        total[0] += 1
        metrics.log(step, {"loss": 1.0}, tokens=100, samples=2)
    line = parse_line(stream.getvalue().splitlines()[1])
    assert line["checkpoint_block_ms"] == 2
    assert line["tokens_per_s"] == pytest.approx(200 / (2 * line["step_ms"] / 1e3), rel=1e-3)
    assert line["tokens_per_s"] == pytest.approx(line["samples_per_s"] * 50, rel=1e-6)
    assert line["data_wait_ms"] < line["step_ms"]
    assert line["memory_gb"] > 0
    assert "mfu" not in line


def test_mfu_is_arithmetic_done_over_arithmetic_possible(make, stream, monkeypatch):
    """By the convention of the field, of this rank's own GPU."""
    monkeypatch.setattr(library, "peak_flops", lambda _: 1e12)
    metrics = make(every=1, flops_per_token=library.transformer_flops(
        parameters=1_000_000, layers=2, width=64, tokens=128))  # fmt: skip
    metrics.log(1, {"loss": 1.0}, tokens=1000)
    line = parse_line(stream.getvalue())
    done = 1000 * (6e6 + 12 * 2 * 64 * 128)
    assert line["mfu"] == pytest.approx(done / (line["step_ms"] / 1e3) / 1e12, rel=1e-6)


def test_nan_and_infinity_are_metrics_too(make, stream):
    """A loss that is gone must show."""
    make(every=1).log(1, {"loss": float("nan"), "norm": torch.tensor(torch.inf)})
    line = parse_line(stream.getvalue())
    assert line["loss"] != line["loss"]
    assert line["norm"] == torch.inf


def test_the_copy_is_what_json_makes_of_it(make, file):
    """Whatever kind of number was logged."""
    row = {"loss": 0.1, "epoch": 3, "bad": float("nan"), "worst": float("-inf"), 'a"b': 1e-300}
    metrics = make(every=1)
    assert library._json_line(7, row) == json.dumps({"step": 7, **row}) + "\n"
    metrics.log(1, {"loss": np.float32(0.5), "count": np.int64(2), "flag": True})
    metrics.close()
    [found] = rows(file)
    assert (found["loss"], found["count"], found["flag"]) == (0.5, 2.0, 1.0)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (torch.ones(3), "a tensor of 3 elements of torch.float32"),
        (torch.ones((), device="meta"), "a meta tensor of 1 elements of torch.float32"),
        (torch.tensor(1j), "a tensor of 1 elements of torch.complex64"),
        ("high", "'high'"),
        (None, "None"),
        pytest.param(10**400, "1000000", id="no float"),
        pytest.param(10**9000, "a int that can't be shown", id="more digits than are shown"),
    ],
)
def test_what_is_not_one_number_is_refused(make, value, what):
    """At the call, and not a line later."""
    with pytest.raises(
        ContractError, match=f"metric 'loss': is {re.escape(what)}.*. Log one number"
    ):
        make(every=10).log(1, {"loss": value})


def test_step_of_too_many_bits_is_refused(make):
    """TensorBoard would show another one, and MLflow refuse it."""
    for step in (2**63, -(2**64), 1e300, "x"):
        with pytest.raises(ContractError, match="the step of log"):
            make(every=10).log(step, {"loss": 1.0})


def test_amounts_may_be_tensors(make, stream):
    """Such as the sum of an attention mask."""
    make(every=1).log(1, {"loss": 1.0}, tokens=torch.tensor([5]), samples=np.int64(2))
    line = parse_line(stream.getvalue())
    assert line["tokens_per_s"] == pytest.approx(line["samples_per_s"] * 2.5)
    with pytest.raises(ContractError, match="metric 'tokens': is 'many'"):
        make(every=10).log(2, {"loss": 1.0}, tokens="many")


@pytest.mark.parametrize(
    "counters", [{"a b": lambda: 1}, {"none": lambda: None}, {"text": lambda: "high"}]
)
def test_counter_that_no_line_can_hold_is_refused_at_the_start(make, counters):
    """Not at the end of an interval, whose steps would be lost."""
    with pytest.raises(ContractError, match="metric '"):
        make(every=2, counters=counters)


def test_counter_that_fails_costs_nothing_else(make, file, capsys):
    """It is left out from then on, which is said once."""
    values = iter([1, 2])
    metrics = make(every=1, counters={"count": lambda: next(values)})
    for step in range(3):
        metrics.log(step, {"loss": 1.0})
    metrics.close()
    assert [row.get("count") for row in rows(file)] == [1.0, None, None]
    assert capsys.readouterr().err.count("counter count is left out: StopIteration") == 1


def test_definitions_name_every_metric_of_the_lines(make):
    """They can be given to CreateTrainingJob as they are."""
    metrics = make(every=1)
    metrics.log(1, {"valid:loss": 1.0})
    path = metrics.write_definitions()
    names = {definition["Name"] for definition in json.loads(path.read_text())}
    assert path.name == "metric_definitions.json"
    assert {"valid:loss", "step_ms", "memory_gb"} <= names
    assert "step" not in names


def test_more_definitions_than_a_job_takes_are_refused(make):
    """Better here than by the service."""
    metrics = make(every=1)
    metrics.log(1, {f"m{number}": 1.0 for number in range(41)})
    with pytest.raises(ValueError, match="takes 40"):
        metrics.write_definitions()


def test_other_ranks_write_nothing(make, stream, file, monkeypatch):
    """One line a step in the log, whatever the number of GPUs."""
    monkeypatch.setenv("RANK", "1")
    metrics = make(every=1)
    metrics.log(1, {"loss": 1.0})
    metrics.close()
    assert not stream.getvalue()
    assert not file.exists()


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GB200", 2.5e15),
        ("Tesla T4", None),
    ],
)
def test_the_peak_is_that_of_the_gpu_by_name(name, peak):
    """An unknown GPU has no peak, and so no mfu, rather than a wrong one."""
    assert library.peak_of_name(name) == peak


def test_a_cpu_has_no_known_peak():
    """No mfu there."""
    assert library.peak_flops(torch.device("cpu")) is None
