"""Write the source of Python's standard library as token files: DIR/train and DIR/valid.

A real corpus that every machine has. Tokens are bytes, and 256 ends a file; uint16 in .npy files
of at most 4 million tokens. Every twentieth file goes to `valid`.
"""

import argparse
import sysconfig
from pathlib import Path

import numpy as np

END = 256
SHARD = 4_000_000
SKIPPED = {"site-packages", "dist-packages", "__pycache__", "idlelib", "lib2to3"}


def sources():
    root = Path(sysconfig.get_path("stdlib"))
    return [path for path in sorted(root.rglob("*.py")) if not SKIPPED.intersection(path.parts)]


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    end = np.array([END], np.uint16)
    parts = [
        part
        for file in files
        for part in (np.frombuffer(file.read_bytes(), np.uint8).astype(np.uint16), end)
    ]
    tokens = np.concatenate(parts)
    for number, start in enumerate(range(0, len(tokens), SHARD)):
        np.save(folder / f"tokens-{number:03}.npy", tokens[start : start + SHARD])
    print(f"{folder}: {len(tokens):,} tokens of {len(files)} files")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    files = sources()
    write(directory / "train", [file for n, file in enumerate(files) if n % 20])
    write(directory / "valid", files[::20])


if __name__ == "__main__":
    main()
