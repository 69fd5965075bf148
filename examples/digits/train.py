"""Train a small network on 8x8 scans of handwritten digits.

Written as any SageMaker training script: hyperparameters are arguments, folders come from SM_*.
Started once for each of several processes, with RANK and WORLD_SIZE set, it trains on all of them.
Rows of the channels' CSV files: label, then 64 grey values from 0 to 16.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from network import DigitNet


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--test", default=os.environ.get("SM_CHANNEL_TEST"))
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    return parser.parse_args()


def read_channel(folder):
    rows = np.concatenate(
        [np.loadtxt(file, delimiter=",", ndmin=2) for file in sorted(Path(folder).glob("*.csv"))]
    )
    labels = torch.from_numpy(rows[:, 0]).long()
    images = torch.from_numpy(rows[:, 1:]).float().view(-1, 1, 8, 8)
    return images, labels


@torch.inference_mode()
def accuracy(model, images, labels):
    model.eval()
    return (model(images).argmax(dim=1) == labels).float().mean().item()


def main():
    arguments = parse_arguments()
    rank, world_size = (int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE"))
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if world_size > 1:
        distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    torch.manual_seed(arguments.seed)

    images, labels = (tensor.to(device) for tensor in read_channel(arguments.train))
    held_out = None
    if arguments.test:
        held_out = tuple(tensor.to(device) for tensor in read_channel(arguments.test))

    network = DigitNet().to(device)
    model = DistributedDataParallel(network) if world_size > 1 else network
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, arguments.epochs)

    for epoch in range(1, arguments.epochs + 1):
        started = time.monotonic()
        model.train()
        total = 0.0
        # Every process shuffles alike, and takes its own part of each batch.
        for batch in torch.randperm(len(images), device=device).split(arguments.batch_size):
            part = batch.tensor_split(max(1, world_size))[rank]
            loss = functional.cross_entropy(model(images[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item() * len(batch)
        schedule.step()
        if rank == 0:
            line = f"epoch={epoch}; loss={total / len(images):.4f};"
            if held_out:
                line += f" test_accuracy={accuracy(network, *held_out):.4f};"
            print(line, f"seconds={time.monotonic() - started:.2f};")

    if rank == 0:
        save(network, Path(arguments.model_dir))
    if world_size > 1:
        distributed.destroy_process_group()


def save(model, folder):
    torch.save(model.state_dict(), folder / "model.pt")
    (folder / "labels.json").write_text(json.dumps([str(digit) for digit in range(10)]))


if __name__ == "__main__":
    main()
