"""GPT-2 124M on one GPU: how much of its peak the readable training loop reaches.

    scripts/bench gpu

Runs examples/gpt as a job, with the data, compilation and logging that a user would have, and reads
its own metric lines. Also checks what only a GPU can: that an asynchronous checkpoint is resumed,
and that the pinned copies of the data loader deliver the right tokens.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from sagemaker_byoc.contract.training.runs import parse_line

ROOT = Path(__file__).parents[1]
STEPS = 120
WARM = 40
"""Steps until compilation and the allocator have settled; not counted."""
SETTINGS = {
    "vocabulary": 50304,
    "steps": STEPS,
    "batch_size": 64,
    "micro_batch": 32,
    "log_every": 10,
    "save_every": 60,
    "valid_batches": 2,
}
SECONDS = 480


def run_job(data: Path, output: Path) -> list[dict[str, float]]:
    """One training job on this machine; the values of its metric lines."""
    command = [sys.executable, "-m", "sagemaker_byoc.cli", "train", str(ROOT / "examples/gpt")]
    command += ["--channel", f"train={data / 'train'}", "--channel", f"valid={data / 'valid'}"]
    command += ["--output", str(output), "--hp", *(f"{k}={v}" for k, v in SETTINGS.items())]
    result = subprocess.run(
        command, stderr=subprocess.PIPE, text=True, check=False, timeout=SECONDS
    )
    if result.returncode != 0:
        sys.exit(result.stderr)
    return [parsed for line in result.stderr.splitlines() if (parsed := parse_line(line))]


def check_pinned_copies(data: Path) -> None:
    """The batches on the GPU are those that the CPU reads."""
    sys.path.insert(0, str(ROOT / "examples/gpt"))
    from data import batches  # noqa: PLC0415 - the example's own module

    files = sorted((data / "train").glob("*.npy"))
    plain = batches(files, 1024, 32, seed=1)
    pinned = batches(files, 1024, 32, seed=1, pin_memory=True)
    for one, other, _ in zip(plain, pinned, range(50), strict=False):
        assert torch.equal(other.to("cuda", non_blocking=True).cpu(), one)


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("gpu: torch sees no NVIDIA GPU on this machine")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        make_data = ROOT / "examples/gpt/make_data.py"
        subprocess.run([sys.executable, str(make_data), str(data)], check=True)
        check_pinned_copies(data)
        lines = run_job(data, Path(folder, "job"))
    settled = [line for line in lines if line.get("step", 0) > WARM]
    report = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "settings": SETTINGS,
        **{
            name: statistics.median(line[name] for line in settled)
            for name in ("mfu", "tokens_per_s", "step_ms", "data_wait_ms", "checkpoint_block_ms")
            if all(name in line for line in settled)
        },
        "loss": lines[-2]["loss"] if len(lines) > 1 else None,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
