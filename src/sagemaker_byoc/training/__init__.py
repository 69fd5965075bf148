"""The training image: the `train` supervisor, and what user scripts may import (torch, late)."""
