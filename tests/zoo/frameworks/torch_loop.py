"""A DDP loop that torchrun starts, with TensorBoard's event file; saves on SIGTERM."""

import os
import signal

import torch
from ending import RANK, come, steps
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

stops = []
signal.signal(signal.SIGTERM, lambda *_: stops.append(1))
torch.distributed.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(2, 1))
stop = torch.zeros(1)
with SummaryWriter(os.environ["SM_OUTPUT_DATA_DIR"]) as writer:
    for step in range(steps(3)):
        loss = model(torch.randn(4, 2)).pow(2).mean()
        loss.backward()
        come(step)
        writer.add_scalar("loss", loss.item(), step)
        stop.fill_(len(stops))
        torch.distributed.all_reduce(stop)
        if stop.item():
            break
if RANK == 0:
    torch.save(model.state_dict(), f"{os.environ['SM_MODEL_DIR']}/model.pt")
torch.distributed.destroy_process_group()
