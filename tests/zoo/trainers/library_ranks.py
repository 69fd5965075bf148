"""One rank of a small distributed run: folder, kind (fsdp, ddp or plain), steps, signals.

RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as a launcher sets them. `signals` is a step for each
rank, joined by commas, at which it gets a SIGTERM; empty for none. Prints the last step and a
fingerprint of the weights and of the optimizer's first moments.
"""

import hashlib
import os
import signal
import sys

import torch
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from sagemaker_byoc.training.library.checkpoint import Checkpointer
from sagemaker_byoc.training.library.ranks import StopFlag

FOLDER, KIND, STEPS, SIGNALS = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def build():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 33), nn.Tanh(), nn.Linear(33, 7))
    if KIND == "fsdp":
        return fully_shard(model, mesh=init_device_mesh("cpu", (WORLD,)))
    return nn.parallel.DistributedDataParallel(model) if KIND == "ddp" else model


def fingerprint(model, optimizer):
    """The same at any world size, and on every rank."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, moments = get_state_dict(model, optimizer, options=options)
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(weights[name].numpy().tobytes())
        digest.update(moments["state"][name]["exp_avg"].numpy().tobytes())
    return digest.hexdigest()[:16]


torch.set_num_threads(1)
if KIND != "plain":
    distributed.init_process_group("gloo")
model = build()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
checkpointer = Checkpointer(
    model=model, optimizer=optimizer, every_steps=5, folder=FOLDER, stop=StopFlag(every=4)
)
step = -1
for step in checkpointer.steps(STEPS):
    features = torch.sin(torch.arange(64.0) * step).view(4, 16)  # the same on each rank
    model(features).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    if SIGNALS and step == int(SIGNALS.split(",")[RANK]):
        os.kill(os.getpid(), signal.SIGTERM)
found = fingerprint(model, optimizer)
if RANK == 0:
    print(f"step={step} stopped={checkpointer.stopped} fingerprint={found}")
else:
    print(f"step={step} stopped={checkpointer.stopped}")
if KIND != "plain":
    distributed.destroy_process_group()
