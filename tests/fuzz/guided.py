"""The coverage-guided run: scripts/fuzz SECONDS [FOLDER]. Seeds are small bodies of every type."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["sagemaker_byoc.serving", "zipfile", "numpy.lib"]):
    import entry

    from sagemaker_byoc.serving.worker import defaults
    from sagemaker_byoc.serving.worker.formats import named_arrays

MEMORY_MB = 2048
SLOWEST = 5
"""Seconds for one input of at most LONGEST bytes."""
LONGEST = 4096


def write_seeds(folder: Path) -> None:
    """One good body a type, behind the bytes that choose it."""
    array = np.array([[1, 2.5], [3, 4]], np.float32)
    stream = io.BytesIO()
    np.save(stream, array)
    packed = io.BytesIO()
    np.savez_compressed(packed, a=array, b=array[0])
    bodies = [
        b'{"instances": [[1, 2], [3, null]]}',
        b'[1, 2]\n{"features": [3, 4]}\n',
        b'a,b\n1,"2"\n3,4\n',
        stream.getvalue(),
        packed.getvalue(),
        named_arrays.encode_safetensors({"a": array, "b": array[0]}),
        b'text/csv;q=0.5, application/*;q="1", */*; charset="a\\"b"',
    ]
    assert len(bodies) == len(defaults.SUPPORTED) + 1
    folder.mkdir(parents=True, exist_ok=True)
    for number, body in enumerate(bodies):
        (folder / f"seed-{number}").write_bytes(bytes([number, 0]) + body)


def main() -> None:
    seconds, folder = sys.argv[1:]
    corpus = Path(folder) / "corpus"
    write_seeds(corpus)
    options = [
        f"-max_total_time={int(seconds)}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={SLOWEST}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={folder}/finding-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], entry.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
