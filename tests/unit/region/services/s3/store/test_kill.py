"""A process that puts objects is killed at any instant; what it left is whole."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore

PROGRAM = """
import random, sys
from pathlib import Path
from sagemaker_byoc.region.services.s3.store.objects import Attributes
from sagemaker_byoc.region.services.s3.store.multipart import Uploads, Wanted
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore

store = ObjectStore(Path(sys.argv[1]))
uploads = Uploads(store)
random.seed(int(sys.argv[2]))
if not store.has_bucket("bucket"):
    store.create_bucket("bucket")
print("ready", flush=True)
while True:
    key = random.choice(["a", "a/b", "a/b/c", "d" * 300])
    letter = random.choice("xyz")
    size = random.choice([1, 5000, 3_000_000])
    what = random.random()
    if what < 0.1:
        store.delete("bucket", key)
    elif what < 0.2:
        attributes = Attributes(etag="", metadata={"text": f"{letter}{5 << 20}"})
        upload = uploads.create("bucket", key, attributes, "")
        with_part = uploads.open_part("bucket", upload, 1, 5 << 20)
        with_part.write(letter.encode() * (5 << 20))
        part = with_part.commit("")
        uploads.complete("bucket", upload, [Wanted(1, part.etag)], None)
    else:
        text = f"{letter}{size}"
        store.put_bytes("bucket", key, letter.encode() * size, metadata={"text": text})
"""


@pytest.mark.slow
def test_killed_at_random_instants(tmp_path):
    """Every object has the bytes and the attributes of one put; nothing else is left."""
    random_ = random.Random(3)
    root = tmp_path / "s3"
    survivors = 0
    for turn in range(25):
        command = [sys.executable, "-c", PROGRAM, str(root), str(turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(random_.uniform(0, 0.15))  # the instant is what is random here
            process.send_signal(signal.SIGKILL)
        store = ObjectStore(root)
        for info in store.list("bucket"):
            stored = store.get("bucket", info.key)
            data = stored.path.read_bytes()
            text = stored.info.metadata["text"]
            assert data == text[0].encode() * int(text[1:]), info.key
            survivors += 1
        assert store.sweep() == 0, "the start swept all that was stray"
        assert not list(Path(root, ".new").iterdir())
    assert survivors > 25


ACKNOWLEDGING = """
import os, sys, threading
from pathlib import Path
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore

store = ObjectStore(Path(sys.argv[1]))
if not store.has_bucket("bucket"):
    store.create_bucket("bucket")

def put(name):
    version = int(sys.argv[2]) * 100_000
    while True:
        version += 1
        size = 70_000 if version % 10 == 0 else version % 3000
        data = str(version).encode() + b"\\n" + bytes(size)
        key = f"{name}/{version % 50}"
        store.put_bytes("bucket", key, data, metadata={"size": str(len(data))})
        os.write(1, f"{key} {version}\\n".encode())
        if version % 7 == 0:
            store.delete("bucket", key)
            os.write(1, f"{key} 0\\n".encode())

for number in range(10):
    threading.Thread(target=put, args=(f"t{number}",)).start()
"""


@pytest.mark.slow
def test_what_was_acknowledged_outlives_the_process(tmp_path):
    """Ten threads at once. The last change of a key is there, or the one that had begun."""
    root = tmp_path / "s3"
    last = {}
    for turn in range(8):
        command = [sys.executable, "-c", ACKNOWLEDGING, str(root), str(turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(500 + 37 * turn)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        for line in lines:
            if line.endswith("\n"):
                key, version = line.split()
                last[key] = int(version)
        store = ObjectStore(root)
        there = {info.key: store.get("bucket", info.key) for info in store.list("bucket")}
        for key, version in last.items():
            found = 0
            if key in there:
                data = there[key].path.read_bytes()
                assert len(data) == int(there[key].info.metadata["size"]), key
                found = int(data.split(b"\n")[0])
            began = version == 0 or found == 0 or found > version
            assert found == version or began, (key, version, found)
        kept = sum(version > 0 and key in there for key, version in last.items())
        assert kept >= sum(version > 0 for version in last.values()) - 10, "one for each thread"
        store.close()
