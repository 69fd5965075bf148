"""How long from `train` to the first line of the user's program, and what a relayed line costs.

Run it with the Python that has sagemaker-byoc; sagemaker-training gets a virtual environment of its
own, or give --toolkit-python. Report: benchmarks/train_start.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from sagemaker_byoc.training.supervisor.process.log import LINE_LIMIT, Lines, Tail, Writer

TOOLKIT = "sagemaker-training==5.1.4"
STAMP = "import os, time; open(os.environ['FIRST_LINE'], 'w').write(str(time.monotonic()))\n"
LINE = b"step: 1234 train_loss=0.123456789; tokens_per_s=123456.7;\n"
LINES = 200_000


def make_tree(folder: Path) -> Path:
    """A one-host job with a handful of hyperparameters and a channel."""
    config = folder / "ml" / "input" / "config"
    config.mkdir(parents=True)
    (folder / "ml" / "input" / "data" / "train").mkdir(parents=True)
    (folder / "ml" / "input" / "data" / "train" / "a.csv").write_text("1,2\n")
    (folder / "ml" / "code").mkdir()
    (folder / "ml" / "code" / "train.py").write_text(STAMP)
    documents = {
        "hyperparameters": {
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": json.dumps(str(folder / "ml" / "code")),
            "epochs": "3",
            "learning_rate": "0.001",
            "amp": "true",
            "name": '"resnet"',
        },
        "inputdataconfig": {"train": {"TrainingInputMode": "File"}},
        "resourceconfig": {
            "current_host": "localhost",
            "hosts": ["localhost"],
            "network_interface_name": "lo",
        },
    }
    for name, document in documents.items():
        (config / f"{name}.json").write_text(json.dumps(document))
    return folder / "ml"


def toolkit_python(folder: Path) -> Path:
    venv.create(folder / "toolkit", with_pip=True)
    python = folder / "toolkit" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", TOOLKIT], check=True)
    return python


def seconds_to_first_line(command: list[str], environ: dict[str, str], stamp: Path) -> float:
    stamp.unlink(missing_ok=True)
    begin = time.monotonic()
    subprocess.run(command, env=environ, capture_output=True, check=True)
    return float(stamp.read_text()) - begin


def measure_starts(
    toolkit: Path, pytorch: str | None, repeats: int, folder: Path
) -> dict[str, list[float]]:
    """Every launcher in turn, so that whatever else the machine does hits all alike."""
    tree = make_tree(folder)
    stamp = folder / "first-line"
    environ = {"PATH": os.environ["PATH"], "SAGEMAKER_BASE_DIR": str(tree)}
    environ["FIRST_LINE"] = str(stamp)
    commands = {
        "python train.py": [sys.executable, str(tree / "code" / "train.py")],
        "sagemaker-byoc": [sys.executable, "-I", "-m", "sagemaker_byoc.training", "train"],
        "sagemaker-training 5.1.4": [str(toolkit.parent / "train")],
    }
    if pytorch:
        # env(1) sets what the PyTorch image sets, for this one launcher.
        module = "SAGEMAKER_TRAINING_MODULE=sagemaker_pytorch_container.training:main"
        train = str(Path(pytorch).parent / "train")
        commands["sagemaker-pytorch-training 3.0.0"] = ["env", module, train]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(repeats + 1):
        for name, command in commands.items():
            taken = seconds_to_first_line(command, environ, stamp)
            if repeat:  # the first one writes .pyc files
                seconds[name].append(taken)
    return seconds


def measure_relay(piece: bytes) -> float:
    """Microseconds a line for all that the supervisor's own code does with output."""
    count = LINES // piece.count(b"\n") * piece.count(b"\n")
    out = os.open(os.devnull, os.O_WRONLY)
    writer, lines, tail = Writer(), Lines(), Tail()
    begin = time.perf_counter()
    for _ in range(count // piece.count(b"\n")):
        while not writer.wait_for_room(0.01):
            pass
        whole = lines.feed(piece)
        tail.add(whole)
        writer.put(out, whole)
    writer.close(60)
    return (time.perf_counter() - begin) / count * 1e6


def measure_relay_end_to_end(folder: Path) -> dict[str, float]:
    """Microseconds a line that a run of many lines takes longer than one of none."""
    environ = {"PATH": os.environ["PATH"], "SAGEMAKER_BASE_DIR": str(folder / "ml")}
    program = folder / "ml" / "code" / "train.py"
    text = f"import sys\nfor _ in range(%d): sys.stdout.write({LINE.decode()!r})\n"
    command = [sys.executable, "-I", "-m", "sagemaker_byoc.training", "train"]

    def run(command: list[str], count: int, **more: str) -> float:
        program.write_text(text % count)
        begin = time.perf_counter()
        with open(os.devnull, "wb") as nowhere:
            subprocess.run(
                command, env={**environ, **more}, stdout=nowhere, stderr=nowhere, check=True
            )
        return time.perf_counter() - begin

    costs = {}
    for name, buffering in (("buffered", ""), ("unbuffered", "1")):
        more = {"PYTHONUNBUFFERED": buffering}
        for kind, words in (("alone", [sys.executable, str(program)]), ("relayed", command)):
            times = [run(words, LINES, **more) - run(words, 0, **more) for _ in range(5)]
            costs[f"{name}, {kind}"] = statistics.median(times) / LINES * 1e6
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toolkit-python", help="a Python that has sagemaker-training 5.1.4")
    parser.add_argument(
        "--pytorch-toolkit-python",
        help="a Python that has torch and sagemaker-pytorch-training 3.0.0; left out without it",
    )
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--output", default="benchmarks/train_start.json")
    options = parser.parse_args()
    whole = LINE * (LINE_LIMIT // len(LINE))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        toolkit = Path(options.toolkit_python or toolkit_python(folder))
        seconds = measure_starts(toolkit, options.pytorch_toolkit_python, options.repeats, folder)
        result = {
            "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, "
            f"CPython {platform.python_version()}, load {os.getloadavg()[0]:.1f}",
            "seconds_to_first_line": seconds,
            "median": {name: statistics.median(times) for name, times in seconds.items()},
            "relay_us_per_line": {
                "64 KiB pieces": measure_relay(whole),
                "one line a piece": measure_relay(LINE),
                **measure_relay_end_to_end(folder),
            },
        }
    Path(options.output).write_text(json.dumps(result, indent=1) + "\n")
    for name, median in result["median"].items():
        times = sorted(seconds[name])
        print(f"{name:26} median {median:.3f} s, p10 {times[len(times) // 10]:.3f} s")
    ratio = result["median"]["sagemaker-training 5.1.4"] / result["median"]["sagemaker-byoc"]
    print(f"ratio {ratio:.1f}")
    for name, cost in result["relay_us_per_line"].items():
        print(f"relay, {name:20} {cost:.2f} us a line")


if __name__ == "__main__":
    main()
