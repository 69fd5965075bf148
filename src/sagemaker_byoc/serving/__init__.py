"""The serving image: the `serve` front (never torch) and the model workers."""
