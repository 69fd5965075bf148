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
