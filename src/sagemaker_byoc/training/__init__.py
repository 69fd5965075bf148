"""The training image: the `train` supervisor, and the library that user scripts may import.

    from sagemaker_byoc.training import Checkpointer, Metrics, channel, job

Each name is imported when it is first used: the supervisor must not pay for torch, and a script
takes one piece without the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagemaker_byoc.training.library.checkpoint.checkpointer import Checkpointer
    from sagemaker_byoc.training.library.data.channel import channel
    from sagemaker_byoc.training.library.export import export_model
    from sagemaker_byoc.training.library.metrics import Metrics
    from sagemaker_byoc.training.library.process import job
    from sagemaker_byoc.training.library.profiling import Profile
    from sagemaker_byoc.training.library.ranks import StopFlag
    from sagemaker_byoc.training.library.schema import Choices, Range
    from sagemaker_byoc.training.library.seeding import seed_everything
    from sagemaker_byoc.training.library.track import Track
    from sagemaker_byoc.training.library.watch.attach import watch

_HOMES = {
    "Checkpointer": "checkpoint.checkpointer",
    "Choices": "schema",
    "Metrics": "metrics",
    "Profile": "profiling",
    "Range": "schema",
    "StopFlag": "ranks",
    "Track": "track",
    "channel": "data.channel",
    "export_model": "export",
    "job": "process",
    "seed_everything": "seeding",
    "watch": "watch.attach",
}

__all__ = [
    "Checkpointer",
    "Choices",
    "Metrics",
    "Profile",
    "Range",
    "StopFlag",
    "Track",
    "channel",
    "export_model",
    "job",
    "seed_everything",
    "watch",
]

_WITHOUT_TORCH = frozenset({"Choices", "Range", "channel", "job"})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    if name not in _WITHOUT_TORCH:
        # First: the watch that a job asks for begins with torch's import (site/sitecustomize.py),
        # and needs modules of the library whole that would be half imported then.
        import_module("torch")
    return getattr(import_module(f"{__name__}.library.{_HOMES[name]}"), name)
