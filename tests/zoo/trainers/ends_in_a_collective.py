"""Finishes well while a thread of gloo still holds Python objects, which it drops later."""

import time

import torch
from torch import distributed as dist


class TakesTime:
    """Holds up the end of the interpreter, after its lock is closed to other threads."""

    def __del__(self, sleep=time.sleep):
        sleep(1.0)


dist.init_process_group("gloo")
left = TakesTime()
work = dist.all_reduce(torch.ones(5_000_000), async_op=True)
future = work.get_future().then(lambda done: done)
print("finished")
