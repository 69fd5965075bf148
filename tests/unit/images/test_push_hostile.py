"""Documents and registries that lie: nothing but a refusal may come of them."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.images.errors import HostileError
from sagemaker_byoc.images.model import DOCKER_MANIFEST, OCI_INDEX
from sagemaker_byoc.images.push.archive import Archive
from sagemaker_byoc.images.push.content import with_diff_ids
from sagemaker_byoc.images.push.slices import Slice
from sagemaker_byoc.images.push.verify import plain_docker
from sagemaker_byoc.images.registry import Stored

DIGEST = "sha256:" + 64 * "a"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(DIGEST),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "Config Layers config layers manifests digest size rootfs diff_ids mediaType"
                " platform os architecture annotations".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
BLOB = f"blobs/sha256/{64 * 'a'}"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Names and contents as an archive has them."""
    folder = tmp_path_factory.mktemp("parts")
    files = []

    def make(contents):
        found = {}
        for number, (name, data) in enumerate(contents.items()):
            path = folder / str(number)
            path.write_bytes(data)
            files.append(path.open("rb"))
            found[name] = Slice(files[-1], 0, len(data))
        return found

    yield make
    for file in files:
        file.close()


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(value=JSON, other=JSON, name=st.sampled_from(["manifest.json", "index.json"]))
def test_no_archive_leads_to_anything_but_a_refusal(parts, value, other, name):
    contents = {name: json.dumps(value).encode(), BLOB: json.dumps(other).encode()}
    archive = Archive("x", parts(contents), {"a": "a"})
    with suppress(ByocError):  # any other error fails the test
        assert isinstance(archive.image_name, str)
        with_diff_ids(archive.load("linux/amd64"), "linux/amd64", "x")


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(value=JSON)
def test_no_manifest_of_a_registry_leads_to_anything_but_a_refusal(value):
    with suppress(ByocError):
        assert plain_docker(Stored(json.dumps(value).encode(), DOCKER_MANIFEST)) is None


def test_an_index_of_itself_ends(parts):
    top = {"mediaType": OCI_INDEX, "digest": DIGEST, "size": 1}
    index = json.dumps({"mediaType": OCI_INDEX, "manifests": [top]}).encode()
    archive = Archive("x", parts({"index.json": index, BLOB: index}), {})
    with pytest.raises(HostileError, match="index of indexes"):
        archive.load("linux/amd64")


def test_a_document_without_end_is_not_read(parts):
    archive = Archive("x", parts({"manifest.json": b"[" + b" " * (9 << 20)}), {})
    with pytest.raises(HostileError, match="over 8 MiB"):
        archive.load("linux/amd64")
