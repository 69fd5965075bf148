"""What is read from a training program's optimizers and layers."""
