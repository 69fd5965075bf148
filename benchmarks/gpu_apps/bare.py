# ruff: noqa: ANN001, ANN003, ANN201, ANN202
"""What the parts of gpu.py are compared with, without our code: bare.py PART, sizes in GPU_SIZES.

Prints one line of JSON. step: a training step of the GPT, its batch on the device already. forward:
the vision transformer. copies: the same with batches that come from the host.
checkpoint: ours, asynchronous, beside a synchronous one, and beside no checkpoint.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "examples/gpt"), str(Path(__file__).parent / "serve")]
USE_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if USE_GPU else "cpu")
SIZES = json.loads(os.environ["GPU_SIZES"])


def milliseconds(action, count):
    """Return the median of `count` runs, each waited for."""
    times = []
    for _ in range(count):
        sync()
        began = time.perf_counter()
        action()
        sync()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def sync():
    if USE_GPU:
        torch.cuda.synchronize()


def gpt_step():
    """Return the model, its optimizer and a function that does a step of examples/gpt."""
    from model import GPT  # noqa: PLC0415
    from train import Settings, loss_of, make_optimizer  # noqa: PLC0415

    torch.set_float32_matmul_precision("high")
    torch.manual_seed(7)
    some = Settings(**SIZES)
    plain = GPT(some.vocabulary, some.length, some.layers, some.heads, some.width).to(DEVICE)
    model = torch.compile(plain) if some.compile else plain
    optimizer = make_optimizer(plain, some, DEVICE)
    batch = torch.randint(0, 256, (some.batch_size, some.length + 1), device=DEVICE)
    amp = torch.autocast("cuda", torch.bfloat16) if USE_GPU else nullcontext()

    def step():
        parts = batch.split(some.micro_batch)
        for part in parts:
            with amp:
                loss = loss_of(model, part) / len(parts)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return plain, optimizer, step


def step():
    from sagemaker_byoc.training.library.metrics import (  # noqa: PLC0415
        peak_flops,
        transformer_flops,
    )

    plain, _, once = gpt_step()
    milliseconds(once, 5)
    found = {"step_ms": milliseconds(once, 20)}
    tokens = SIZES["batch_size"] * SIZES["length"]
    found["tokens_per_s"] = tokens / found["step_ms"] * 1e3
    flops = transformer_flops(
        parameters=plain.parameter_count(),
        layers=SIZES["layers"],
        width=SIZES["width"],
        tokens=SIZES["length"],
    )
    peak = peak_flops(DEVICE)
    return {**found, "mfu": found["tokens_per_s"] * flops / peak if peak else None}


def forward():
    import vit  # noqa: PLC0415

    from sagemaker_byoc.training.library.metrics import peak_flops  # noqa: PLC0415

    net = vit.model(SIZES, DEVICE)
    images = torch.zeros(SIZES["batch"], 3, SIZES["pixels"], SIZES["pixels"], dtype=torch.uint8)
    images = images.to(DEVICE)
    with torch.inference_mode():
        milliseconds(lambda: net(images), 5)
        rate = 1e3 * SIZES["batch"] / milliseconds(lambda: net(images), 30)
        shape = (1, 3, SIZES["pixels"], SIZES["pixels"])
        picture = np.random.default_rng(7).integers(0, 256, shape, np.uint8)
        scores = net(torch.from_numpy(picture).to(DEVICE)).float().tolist()
    peak = peak_flops(DEVICE)
    mfu = rate * vit.flops(SIZES) / peak if peak else None
    return {"images_per_s": rate, "mfu": mfu, "scores": scores}


def copies():
    """Return images/s, forward in bf16, by where the batches come from; check what arrives."""
    import vit  # noqa: PLC0415
    from torch.utils.data import DataLoader, TensorDataset  # noqa: PLC0415

    net = vit.model(SIZES, DEVICE)
    count, pixels = SIZES["batch"], SIZES["pixels"]
    torch.manual_seed(1)
    images = torch.randint(0, 256, (8 * count, 3, pixels, pixels), dtype=torch.uint8)

    def loader(**options):
        return DataLoader(TensorDataset(images), batch_size=count, **options)

    def run(batches, *, non_blocking=False):
        with torch.inference_mode():
            for (batch,) in batches:
                net(batch.to(DEVICE, non_blocking=non_blocking))

    pinned = {"pin_memory": USE_GPU}
    for (one,), (other,) in zip(loader(), loader(**pinned), strict=True):
        assert torch.equal(other.to(DEVICE, non_blocking=True).cpu(), one)
    on_device = [(each.to(DEVICE),) for each in images.split(count)]
    ways = {
        "on_the_device": lambda: run(on_device),
        "pageable": lambda: run(loader()),
        "pinned": lambda: run(loader(**pinned), non_blocking=True),
        "pinned_2_workers": lambda: run(loader(**pinned, num_workers=2), non_blocking=True),
    }
    run(on_device)
    return {f"{way}_images_per_s": 1e3 * len(images) / milliseconds(ways[way], 3) for way in ways}


def checkpoint():
    from sagemaker_byoc.training.library.checkpoint import Checkpointer  # noqa: PLC0415

    plain, optimizer, once = gpt_step()
    milliseconds(once, 5)
    found = {"step_ms": milliseconds(once, 10), "sync_ms": [], "async_ms": [], "during_ms": []}
    with tempfile.TemporaryDirectory() as folder:
        checkpointer = Checkpointer(
            model=plain, optimizer=optimizer, folder=folder, every_seconds=None
        )
        for number in range(1, 6, 2):
            found["sync_ms"].append(
                milliseconds(lambda n=number: (checkpointer.save(n), checkpointer.wait()), 1)
            )
            sync()
            began = time.perf_counter()
            checkpointer.save(number + 1)
            found["async_ms"].append(1e3 * (time.perf_counter() - began))
            while checkpointer.is_writing:
                found["during_ms"].append(milliseconds(once, 1))
            checkpointer.wait()
        checkpointer.save(9)
        checkpointer.close()
        saved = {name: value.clone() for name, value in plain.state_dict().items()}
        with torch.no_grad():
            for value in plain.parameters():
                value.zero_()
        again = Checkpointer(model=plain, optimizer=optimizer, folder=folder, every_seconds=None)
        steps = again.steps(10)
        assert next(iter(steps)) == 10, "the checkpoint of step 9 is not continued"
        for name, value in plain.state_dict().items():
            assert torch.equal(value, saved[name]), f"{name} is not what was saved"
        found["mb"] = sum(file.stat().st_size for file in Path(folder).rglob("step-9*/*")) / 1e6
    for name in ("sync_ms", "async_ms", "during_ms"):
        found[name] = statistics.median(found[name][1:]) if len(found[name]) > 1 else None
    return found


def main():
    parts = {"step": step, "forward": forward, "copies": copies, "checkpoint": checkpoint}
    print(json.dumps(parts[sys.argv[1]]()))


if __name__ == "__main__":
    main()
