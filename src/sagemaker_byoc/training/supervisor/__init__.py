"""The command `train`: PID 1 of the training image. Standard library only, and quick to import."""
