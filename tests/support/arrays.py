"""Arrays as the bytes of numpy's own files."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt


def npy(array: npt.ArrayLike, *, allow_pickle: bool = True) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()
