"""Model data from S3 to the folder of a container."""

from __future__ import annotations

import pytest

from sagemaker_byoc.region.containers.health import EndpointError
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.models import ModelData, fetch

DATA = ModelData(uri="s3://bucket/m/", is_archive=False)


@pytest.fixture
def store(tmp_path):
    made = ObjectStore(tmp_path / "s3")
    made.create_bucket("bucket")
    yield made
    made.close()


def test_a_prefix_becomes_a_folder(store, tmp_path):
    """Each object a file; the placeholders of folders are none."""
    for key in ("m/a", "m/d/b", "m/d/", "m/"):
        store.put_bytes("bucket", key, key.encode())
    fetch(DATA, store, tmp_path / "out", "c")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in files) == ["a", "d/b"]


@pytest.mark.parametrize("keys", [("a", "a/b"), ("x//b", "x/b"), ("a/../../b",)])
def test_keys_that_can_be_no_files_of_one_folder(store, tmp_path, keys):
    """The endpoint fails with the key; nothing is overwritten and nothing is outside."""
    for key in keys:
        store.put_bytes("bucket", f"m/{key}", b"x")
    with pytest.raises(EndpointError, match=r"Failed to download model data .*s3://bucket/m/"):
        fetch(DATA, store, tmp_path / "out", "c")
    assert [*tmp_path.iterdir()] == [tmp_path / "s3"]
