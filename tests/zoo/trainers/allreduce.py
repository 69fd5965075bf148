"""A few all-reduces over gloo; every rank checks each sum, and rank 0 prints a metric line."""

import argparse
import json
import os
import sys
import time

import torch
import torch.distributed as dist

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--pause", type=float, default=0.0)
parser.add_argument("--raises", type=int, default=-1, help="the rank that raises in the last step")
options = parser.parse_args()

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, world_size = dist.get_rank(), dist.get_world_size()
place = {name: os.environ[name] for name in ("LOCAL_RANK", "GROUP_RANK", "MASTER_ADDR")}
print("place", json.dumps({"rank": rank, "pid": os.getpid(), **place}))
for step in range(options.steps):
    if rank == options.raises and step == options.steps - 1:
        raise ValueError(f"rank {rank} found a bad batch")
    tensor = torch.full((4,), float(rank))
    dist.all_reduce(tensor)
    assert tensor[0].item() == world_size * (world_size - 1) / 2
    if rank == 0:
        print("step:", step, f"sum={tensor[0].item()};")
    time.sleep(options.pause)
dist.destroy_process_group()
sys.stdout.write(f"done {rank}\n")
