"""Checkpoints that survive a kill at any instant: written in the background, whole or ignored."""

from sagemaker_byoc.training.library.checkpoint.checkpointer import Checkpointer
from sagemaker_byoc.training.library.checkpoint.storage import CheckpointError

__all__ = ["CheckpointError", "Checkpointer"]
