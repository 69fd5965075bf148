"""Named rules with a verdict, over a training that runs: docs/how-to/watch-a-training.md."""
