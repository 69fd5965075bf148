"""Whether the data that the job declares is there, and what to say when it is not."""

from __future__ import annotations

import re

from sagemaker_byoc.contract.training.channels import InputMode
from sagemaker_byoc.contract.training.environment import legal_name
from sagemaker_byoc.contract.training.job import Job

CHANNEL = "SM_CHANNEL_"
VARIABLE = rf"\b{CHANNEL}([A-Za-z0-9_.-]+)"


def absent_channels(job: Job) -> list[str]:
    """One line for each declared channel without data on this host.

    FastFile folders count as well; a Pipe channel has no folder.
    """
    return [
        f"channel {name!r} has no data: {job.tree.channel(name)} is {state}; check that its "
        "S3 address holds objects (and, for a group of instances, that it is meant for this one)"
        for name, channel in job.channels.items()
        if channel.mode is not InputMode.PIPE and (state := _state(job, name))
    ]


def missing_channels(job: Job, text: str) -> list[str]:
    """One line for each channel that a failure's `text` asks for and the job never declared."""
    declared = {legal_name(name) for name in job.channels}
    folder = re.compile(re.escape(str(job.tree.data)) + r"/([A-Za-z0-9_.-]+)")
    wanted = [name.lower() for name in re.findall(VARIABLE, text)] + folder.findall(text)
    return [
        f"channel {name!r} was not given: add it to the job's inputs (InputDataConfig), and its "
        f"data will be in {job.tree.channel(name)}"
        for name in dict.fromkeys(wanted)
        if legal_name(name) not in declared
    ]


def _state(job: Job, name: str) -> str | None:
    try:
        next(job.tree.channel(name).iterdir())
    except StopIteration:
        return "empty"
    except OSError:
        return "missing"
    return None
