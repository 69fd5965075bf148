"""Pretrain a GPT-2-class model: the whole run in one file, read from top to bottom.

The defaults are GPT-2 124M on one GPU or, started once for each GPU, on many. With
layers=2 heads=2 width=64 length=64 batch_size=8 micro_batch=8 it runs on a laptop.
"""

import itertools
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from data import batches
from model import GPT
from sagemaker_byoc.training import (
    Checkpointer,
    Metrics,
    Profile,
    Range,
    channel,
    export_model,
    job,
    seed_everything,
)
from sagemaker_byoc.training.library.metrics import transformer_flops

MOST_BAD_STEPS = 5
"""Consecutive steps with NaN or infinite gradients, which are left out, before the job fails."""


@dataclass(frozen=True)
class Settings:
    layers: int = 12
    heads: int = 12
    width: int = 768
    length: int = 1024
    vocabulary: int = 320  # 257 in use, rounded up to a multiple of 64
    steps: Annotated[int, Range(1)] = 2000
    batch_size: int = 64
    """Sequences a step, over all processes."""
    micro_batch: int = 16
    """Sequences at a time on one device; the rest is accumulated."""
    learning_rate: Annotated[float, Range(0, 1)] = 6e-4
    warmup: int = 100
    weight_decay: float = 0.1
    compile: bool = True
    seed: int = 7
    log_every: int = 10
    valid_batches: int = 20
    save_every: int = 500
    profile: str = ""


def learning_rate(step, settings):
    """Linear warm-up, then a cosine down to a tenth."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * (0.55 + 0.45 * math.cos(math.pi * min(1.0, done)))


def make_optimizer(model, settings, device):
    """Matrices decay, vectors don't; one fused kernel for the update where there is a GPU."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=device.type == "cuda")


def loss_of(model, batch):
    scores = model(batch[:, :-1])
    return functional.cross_entropy(scores.flatten(0, 1).float(), batch[:, 1:].flatten())


def update(optimizer, norm, bad_steps):
    """Step, unless the gradients are not finite; return how many steps in a row were not.

    The norm is the same on every rank, and so is the decision.
    """
    if norm.isfinite():
        optimizer.step()
        return 0
    if bad_steps + 1 == MOST_BAD_STEPS:
        raise RuntimeError(f"the gradients were not finite in {MOST_BAD_STEPS} consecutive steps")
    return bad_steps + 1


def main():
    process = job()
    settings = process.hyperparameters(Settings)
    use_gpu = torch.cuda.is_available()
    device = torch.device("cuda", process.local_rank) if use_gpu else torch.device("cpu")
    if process.world_size > 1:
        distributed.init_process_group("nccl" if use_gpu else "gloo")
    if use_gpu:
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    seed_everything(settings.seed)

    # The same weights on every rank: DDP starts from rank 0's.
    names = ("vocabulary", "length", "layers", "heads", "width")
    shape = {name: getattr(settings, name) for name in names}
    plain = GPT(**shape).to(device)
    model = torch.compile(plain) if settings.compile else plain
    if process.world_size > 1:
        model = DistributedDataParallel(
            model, device_ids=[device] if use_gpu else None, gradient_as_bucket_view=True
        )
    optimizer = make_optimizer(plain, settings, device)
    amp = torch.autocast(device.type, torch.bfloat16) if use_gpu else nullcontext()

    checkpointer = Checkpointer(model=model, optimizer=optimizer, every_steps=settings.save_every)
    metrics = Metrics(
        every=settings.log_every,
        flops_per_token=transformer_flops(
            parameters=plain.parameter_count(),
            layers=settings.layers,
            width=settings.width,
            tokens=settings.length,
        ),
        counters={
            "checkpoint_block_ms": lambda: checkpointer.blocked_ms,
        },
    )
    profile = Profile(settings.profile)

    data, bad_steps = None, 0
    for step in checkpointer.steps(settings.steps):
        if data is None:  # a resumed run continues with the batch of its first step
            data = metrics.waiting(
                batches(
                    channel("train").files("*.npy"),
                    settings.length,
                    settings.batch_size,
                    first=step - 1,
                    seed=settings.seed,
                    rank=process.rank,
                    world_size=process.world_size,
                    pin_memory=use_gpu,
                )
            )
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step - 1, settings)
        batch = next(data).to(device, non_blocking=True)
        parts = batch.split(settings.micro_batch)
        total = torch.zeros((), device=device)
        for number, part in enumerate(parts):
            # Gradients travel between the processes once a step, with the last part.
            last = number == len(parts) - 1
            with nullcontext() if last or process.world_size == 1 else model.no_sync(), amp:
                loss = loss_of(model, part) / len(parts)
            loss.backward()
            total += loss.detach()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        bad_steps = update(optimizer, norm, bad_steps)
        optimizer.zero_grad(set_to_none=True)
        metrics.log(step, {"loss": total, "grad_norm": norm}, tokens=batch[:, 1:].numel())
        profile.step(step)

    profile.close()
    metrics.close()
    if process.is_main and "valid" in process.channels and not checkpointer.stopped:
        validate(settings, plain, device)
    export_model(plain, config=shape)
    if process.world_size > 1:
        distributed.destroy_process_group()


@torch.inference_mode()
def validate(settings, model, device):
    files = channel("valid").files("*.npy")
    some = itertools.islice(
        batches(files, settings.length, settings.micro_batch), settings.valid_batches
    )
    losses = [loss_of(model, batch.to(device)).item() for batch in some]
    print(f"valid_loss={sum(losses) / len(losses):.4f};", flush=True)


if __name__ == "__main__":
    main()
