# ruff: noqa: ANN001, ANN201
"""Train a small network with DDP on one rank; stop half-way once, and continue from a checkpoint.

On a GPU the backend is NCCL. Every gradient is compared with that of the same network without DDP.
"""

import copy
import os

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sagemaker_byoc.training import Checkpointer, Metrics, job

STEPS = 20


def batch_of(step, device):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(32, 64, generator=generator).to(device)


def main():
    process = job()
    use_gpu = torch.cuda.is_available()
    device = torch.device("cuda", process.local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29512")
    distributed.init_process_group(
        "nccl" if use_gpu else "gloo", rank=process.rank, world_size=process.world_size
    )
    torch.manual_seed(7)
    plain = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 1)).to(device)
    model = DistributedDataParallel(plain, device_ids=[device] if use_gpu else None)
    optimizer = torch.optim.AdamW(plain.parameters())
    checkpointer = Checkpointer(model=model, optimizer=optimizer, every_steps=5)
    metrics = Metrics(every=5)
    first = None
    for step in checkpointer.steps(STEPS):
        first = first or step
        twin = copy.deepcopy(plain)
        for network in (model, twin):
            loss = network(batch_of(step, device)).square().mean()
            loss.backward()
        for mine, other in zip(plain.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)
        optimizer.step()
        optimizer.zero_grad()
        metrics.log(step, {"loss": loss.detach()})
        if step == STEPS // 2 and first == 1:
            checkpointer.save(step)
            checkpointer.wait()
            os._exit(3)  # as if the host had gone
    total = torch.ones(1, device=device)
    distributed.all_reduce(total)
    assert total.item() == process.world_size
    metrics.close()
    print(f"backend={distributed.get_backend()} first_step={first}", flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
