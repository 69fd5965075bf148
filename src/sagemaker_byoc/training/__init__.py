"""The training image: the `train` supervisor (standard library only), and what user scripts may import."""
