"""One call a step, four places that know of it: docs/how-to/track-a-training.md."""
