"""What only a GPU can show, in one call of under ten minutes; each part beside the same work bare.

    scripts/bench gpu [--cpu] [--parts digits,gpt,...]

On a machine that can't install: PYTHONPATH=src python3 benchmarks/gpu.py, with a python3 that has
torch, numpy, scikit-learn, safetensors, flask, gunicorn and orjson. --cpu is a dry run at tiny
sizes: it shows that each part runs, and its figures mean nothing. A part that fails or takes too
long is reported, and the others run. Report: gpu.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from serving_load import request, wait_ready

from sagemaker_byoc.contract.training.runs import parse_line

HERE = Path(__file__).parent
ROOT = HERE.parent
APPS = HERE / "gpu_apps"
TOTAL_SECONDS = 560
PORT = 18800
SETTLED = 40
"""Steps until compilation and the allocator have settled; not counted."""


@dataclass
class Sizes:
    epochs: int
    """Epochs that the digits program trains."""
    gpt: dict[str, Any]
    vit: dict[str, int]
    seconds: int
    """Seconds of load, for each number of connections."""
    connections: tuple[int, ...]
    clients: int
    """Processes that share the connections."""
    rows: tuple[int, ...]
    """Images per request."""


GPU = Sizes(
    epochs=8,
    gpt={
        "layers": 12,
        "heads": 12,
        "width": 768,
        "length": 1024,
        "vocabulary": 50304,
        "steps": 120,
        "batch_size": 64,
        "micro_batch": 32,
        "compile": True,
        "log_every": 10,
        "save_every": 60,
        "valid_batches": 2,
    },
    vit={"pixels": 224, "layers": 12, "width": 384, "heads": 6, "batch": 64},
    seconds=6,
    connections=(1, 16, 128),
    clients=6,
    rows=(1, 16),
)
TINY = Sizes(
    epochs=2,
    gpt={
        "layers": 2,
        "heads": 2,
        "width": 64,
        "length": 64,
        "vocabulary": 320,
        "steps": 60,
        "batch_size": 8,
        "micro_batch": 4,
        "compile": False,
        "log_every": 10,
        "save_every": 30,
        "valid_batches": 2,
    },
    vit={"pixels": 32, "layers": 2, "width": 64, "heads": 2, "batch": 8},
    seconds=1,
    connections=(1, 8),
    clients=2,
    rows=(1, 4),
)


@dataclass
class Run:
    """Where the parts run; `until` bounds every process that they start."""

    folder: Path
    sizes: Sizes
    environ: dict[str, str]
    until: float

    def left(self) -> float:
        return max(1.0, self.until - time.monotonic())

    def output(self, command: list[str], allowed: tuple[int, ...] = (0,), **environ: str) -> str:
        """Return what the command printed, or raise RuntimeError with the end of it."""
        done = subprocess.run(
            command,
            env={**self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=self.left(),
        )
        if done.returncode not in allowed:
            raise RuntimeError(f"exit {done.returncode}: {done.stdout[-2000:]}")
        return done.stdout

    def bare(self, part: str, sizes: dict[str, Any]) -> dict[str, Any]:
        command = [sys.executable, str(APPS / "bare.py"), part]
        text = self.output(command, GPU_SIZES=json.dumps(sizes))
        found: dict[str, Any] = json.loads(text.splitlines()[-1])
        return found

    def tree(self, name: str, program: Path, data: Path | None = None, **settings: Any) -> Path:
        """Make the tree of a training job: the program, its channels, its hyperparameters."""
        tree = self.folder / name
        config = tree / "input" / "config"
        config.mkdir(parents=True)
        shutil.copytree(program, tree / "code")
        channels = sorted(each.name for each in data.iterdir()) if data else []
        if data:
            shutil.copytree(data, tree / "input" / "data")
        documents = {
            "hyperparameters": {key: str(value) for key, value in settings.items()},
            "inputdataconfig": {each: {"TrainingInputMode": "File"} for each in channels},
        }
        for file, document in documents.items():
            (config / f"{file}.json").write_text(json.dumps(document))
        return tree

    def train(self, tree: Path, allowed: tuple[int, ...] = (0,), **environ: str) -> str:
        """Run the job of this tree under the supervisor."""
        command = [sys.executable, "-m", "sagemaker_byoc.training", "train"]
        return self.output(command, allowed, SAGEMAKER_BASE_DIR=str(tree), **environ)

    def data(self, example: str) -> Path:
        folder = self.folder / f"{example}-data"
        if not folder.exists():
            self.output([sys.executable, str(ROOT / f"examples/{example}/make_data.py"), folder])
        return folder


def metric_lines(text: str) -> list[dict[str, float]]:
    return [found for line in text.splitlines() if (found := parse_line(line))]


def digits(run: Run) -> dict[str, Any]:
    """The digits program, as it is, under the supervisor."""
    tree = run.tree("digits", ROOT / "examples/digits", run.data("digits"), epochs=run.sizes.epochs)
    began = time.monotonic()
    lines = metric_lines(run.train(tree))
    assert (tree / "model" / "model.pt").stat().st_size
    accuracy = lines[-1]["test_accuracy"]
    assert accuracy > 0.9, f"test_accuracy {accuracy}"
    return {"seconds": time.monotonic() - began, "test_accuracy": accuracy}


def gpt(run: Run) -> dict[str, Any]:
    """GPT-2 with all that a user would have on; then 10 steps more, from its last checkpoint."""
    sizes = run.sizes.gpt
    tree = run.tree("gpt", ROOT / "examples/gpt", run.data("gpt"), **sizes)
    lines = metric_lines(run.train(tree))
    settled = [line for line in lines if line.get("step", 0) > SETTLED]
    names = ("mfu", "tokens_per_s", "step_ms", "data_wait_ms", "checkpoint_block_ms")
    found: dict[str, Any] = {
        name: statistics.median(line[name] for line in settled)
        for name in names
        if all(name in line for line in settled)
    }
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0], f"loss {losses}"
    found["loss"] = [losses[0], losses[-1]]
    settings = {**sizes, "steps": sizes["steps"] + 10}
    hyperparameters = {key: str(value) for key, value in settings.items()}
    (tree / "input/config/hyperparameters.json").write_text(json.dumps(hyperparameters))
    again = metric_lines(run.train(tree))
    resumed = min(line["step"] for line in again if "step" in line)
    assert resumed > sizes["steps"], f"resumed at step {resumed}"
    bare = run.bare("step", sizes)
    found["bare"] = bare
    found["tokens_per_s_over_bare"] = found["tokens_per_s"] / bare["tokens_per_s"]
    return found


def ddp(run: Run) -> dict[str, Any]:
    """DDP with one rank over NCCL: it dies half-way once, and continues from its checkpoint."""
    tree = run.tree("ddp", APPS / "ddp")
    first = run.train(tree, allowed=(3,), BYOC_NPROC="1")
    second = run.train(tree, BYOC_NPROC="1")
    said = next(line for line in second.splitlines() if "backend=" in line)
    assert "first_step=11" in said, f"{said} {first[-500:]}"
    backend = "gloo" if run.environ.get("CUDA_VISIBLE_DEVICES") == "" else "nccl"
    assert f"backend={backend}" in said, said
    return {"backend": backend, "resumed_at": 11}


def checkpoint(run: Run) -> dict[str, Any]:
    """An asynchronous checkpoint of the GPT and its optimizer, beside a synchronous one."""
    found = run.bare("checkpoint", {**run.sizes.gpt, "compile": False})
    return {**found, "async_over_sync": found["async_ms"] / found["sync_ms"]}


def prefetch(run: Run) -> dict[str, Any]:
    """Batches from pinned memory on their way to the device, beside batches that are there."""
    found = run.bare("copies", run.sizes.vit)
    return {
        **found,
        "pinned_over_on_the_device": found["pinned_images_per_s"]
        / found["on_the_device_images_per_s"],
    }


def serving(run: Run) -> dict[str, Any]:
    """The serving worker with bf16 batches: images/s beside the bare forward pass."""
    sizes = run.sizes.vit
    bare = run.bare("forward", sizes)
    found: dict[str, Any] = {"bare": bare}
    tree = run.folder / "serve"
    shutil.copytree(APPS / "serve", tree / "model" / "code")
    environ = {
        **run.environ,
        "SAGEMAKER_BASE_DIR": str(tree),
        "SAGEMAKER_BIND_TO_PORT": str(PORT),
        "BYOC_BIND_HOST": "127.0.0.1",
        "GPU_SIZES": json.dumps(sizes),
        "GPU_BATCH": str(sizes["batch"]),
    }
    command = [sys.executable, "-m", "sagemaker_byoc.serving", "serve"]
    with (tree / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        found["ready_s"] = wait_ready(process, PORT)
        check_scores(images(1, sizes["pixels"]), bare.pop("scores"))
        for rows in run.sizes.rows:
            body = tree / f"body-{rows}"
            body.write_bytes(images(rows, sizes["pixels"]))
            for connections in run.sizes.connections:
                row = load(run, body, connections)
                row["images_per_s"] = rows * row.pop("requests_per_s")
                row["over_bare"] = row["images_per_s"] / bare["images_per_s"]
                found[f"{rows} per request, {connections} connections"] = row
    except Exception as error:
        text = (tree / "log").read_text(errors="replace")
        raise RuntimeError(f"{error}; the server's log ends: {text[-1500:]}") from error
    finally:
        process.terminate()
        process.wait(30)
    return found


def images(count: int, pixels: int) -> bytes:
    stream = io.BytesIO()
    pictures = np.random.default_rng(7).integers(0, 256, (count, 3, pixels, pixels), np.uint8)
    np.save(stream, pictures)
    return stream.getvalue()


def check_scores(body: bytes, expected: list[list[float]]) -> None:
    """Raise AssertionError unless the server's scores are those of the bare pass, within bf16."""
    reply = request(PORT, "/invocations", body, "application/x-npy")
    scores = np.asarray(json.loads(reply or b"[[]]"))
    is_same = scores.shape == np.shape(expected) and np.allclose(scores, expected, atol=0.05)
    assert is_same, f"{str(scores)[:200]} is not {str(expected)[:200]}"


def load(run: Run, body: Path, connections: int) -> dict[str, float]:
    """Ask for some seconds from several processes; the mean batch is that of /metrics."""
    clients = min(run.sizes.clients, connections)
    shares = [connections // clients + (n < connections % clients) for n in range(clients)]
    before = batches()
    command = [sys.executable, str(APPS / "ask.py"), str(PORT), str(body)]
    started = [
        subprocess.Popen([*command, str(share), str(run.sizes.seconds)], stdout=subprocess.PIPE)
        for share in shares
    ]
    rows = [json.loads(process.communicate(timeout=run.left())[0]) for process in started]
    times = sorted(time for row in rows for time in row["times"])
    ran, requests = (new - old for new, old in zip(batches(), before, strict=True))
    return {
        "requests_per_s": len(times) / run.sizes.seconds,
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[len(times) * 99 // 100],
        "errors": sum(row["errors"] for row in rows),
        "mean_batch": requests / ran if ran else 1.0,
    }


def batches() -> tuple[float, float]:
    """Return how many batches have run, and of how many requests."""
    lines = (request(PORT, "/metrics") or b"").decode().splitlines()
    return tuple(  # type: ignore[return-value]
        next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)
        for name in ("byoc_batch_size_count", "byoc_batch_size_sum")
    )


PARTS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "digits": digits,
    "ddp": ddp,
    "prefetch": prefetch,
    "serving": serving,
    "checkpoint": checkpoint,
    "gpt": gpt,
}


def about(run: Run) -> dict[str, Any]:
    text = (
        "import json, torch; c = torch.cuda; print(json.dumps({'torch': torch.__version__, "
        "'gpu': c.get_device_name() if c.is_available() else None}))"
    )
    found: dict[str, Any] = json.loads(run.output([sys.executable, "-c", text]).splitlines()[-1])
    return {**found, "cpus": os.cpu_count()}


def measure(run: Run, part: str) -> dict[str, Any]:
    began = time.monotonic()
    try:
        found = PARTS[part](run)
    except (RuntimeError, AssertionError, OSError, subprocess.TimeoutExpired) as error:
        found = {"failed": f"{type(error).__name__}: {error}"}
    except (KeyError, IndexError, StopIteration, ValueError) as error:  # output of another form
        found = {"failed": f"{type(error).__name__}: {error}"}
    return {**found, "part_s": round(time.monotonic() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="a dry run at tiny sizes")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, help="write the report here too, after each part")
    options = parser.parse_args()
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(":")
    environ = {**os.environ, "PYTHONPATH": paths}
    if options.cpu:
        environ["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        until = time.monotonic() + TOTAL_SECONDS
        run = Run(Path(folder), TINY if options.cpu else GPU, environ, until)
        report: dict[str, Any] = about(run)
        if report["gpu"] is None and not options.cpu:
            sys.exit("gpu: torch sees no NVIDIA GPU on this machine; --cpu is a dry run")
        for part in options.parts.split(","):
            report[part] = measure(run, part)
            print(json.dumps({part: report[part]}, indent=1), flush=True)
            if options.out:
                options.out.write_text(json.dumps(report, indent=1) + "\n")
    failed = [part for part in options.parts.split(",") if "failed" in report[part]]
    sys.exit(f"gpu: failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
