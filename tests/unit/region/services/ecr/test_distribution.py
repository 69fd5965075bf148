"""The distribution protocol, request by request."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from tests.unit.region.services.ecr.conftest import (
    DOCKER,
    INDEX,
    OCI,
    Client,
    basic,
    digest_of,
    error,
)
from tests.unit.region.services.s3.conftest import Body

ROOT = "/v2/team/model"


def begin(client):
    answer = client("POST", f"{ROOT}/blobs/uploads/")
    assert answer.status == 202
    return answer.headers["Location"]


def test_who_has_no_token_is_sent_to_get_one(client):
    for header in ("", "Bearer x", "Basic !", basic("AWS", "guess"), basic("root", "x")):
        answer = client("GET", "/v2/", authorization=header)
        assert error(answer)[:2] == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="http://127.0.0.1:5000/"')
    assert client("GET", "/v2/").status == 200


def test_a_token_is_good_over_a_restart_and_for_twelve_hours(client, tmp_path, monkeypatch):
    again = Client(tmp_path)
    again.authorization = client.authorization
    assert again("GET", "/v2/").status == 200
    monkeypatch.setattr(
        "sagemaker_byoc.region.services.ecr.distribution.LIFETIME", timedelta(hours=-1)
    )
    assert error(Client(tmp_path)("GET", "/v2/"))[:2] == (403, "DENIED")


def test_a_repository_that_is_not_there(client):
    text = "The repository with name 'nope' does not exist in the registry with id '000000000000'"
    for method, target in (
        ("POST", "/v2/nope/blobs/uploads/"),
        ("GET", "/v2/nope/manifests/latest"),
        ("PUT", "/v2/nope/manifests/latest"),
        ("GET", "/v2/nope/tags/list"),
        ("GET", f"/v2/nope/blobs/{digest_of(b'')}"),
    ):
        assert error(client(method, target)) == (404, "NAME_UNKNOWN", text)


def test_a_blob_in_chunks_that_goes_on_after_a_break(client, tmp_path):
    data = bytes(range(256)) * 20_000
    location = begin(client)
    half = len(data) // 2
    first = client("PATCH", location, data[:half], content_range=f"0-{half - 1}")
    assert (first.status, first.headers["Range"]) == (202, f"0-{half - 1}")
    assert error(client("PATCH", location, b"x", content_range="0-0"))[0] == 416
    with pytest.raises(ConnectionError):
        client("PATCH", location, Body(data[half:], piece=1 << 20, breaks=2 << 20))
    again = Client(tmp_path)
    progress = again("GET", location)
    assert progress.status == 204
    have = int(progress.headers["Range"].removeprefix("0-")) + 1
    assert half <= have < len(data)
    rest = again("PATCH", location, data[have:], content_range=f"{have}-{len(data) - 1}")
    assert rest.status == 202
    done = again("PUT", location, query=f"digest={digest_of(data)}")
    assert done.status == 201
    got = client("GET", f"{ROOT}/blobs/{digest_of(data)}")
    assert got.body == data
    part = client("GET", f"{ROOT}/blobs/{digest_of(data)}", range="bytes=256-257")
    assert (part.status, part.body) == (206, b"\0\1")
    head = client("HEAD", f"{ROOT}/blobs/{digest_of(data)}")
    assert (head.headers["Content-Length"], head.body) == (str(len(data)), b"")


def test_a_wrong_digest_makes_no_blob(client):
    location = begin(client)
    wrong = digest_of(b"other")
    assert error(client("PUT", location, b"data", query=f"digest={wrong}"))[1] == "DIGEST_INVALID"
    assert client("HEAD", f"{ROOT}/blobs/{wrong}").status == 404
    for digest in ("", "md5:00", "sha256:xyz", "../../x"):
        answer = client("PUT", begin(client), b"data", query=f"digest={digest}")
        assert error(answer)[1] == "DIGEST_INVALID"


def test_an_upload_that_was_cancelled(client):
    location = begin(client)
    assert client("DELETE", location).status == 204
    assert error(client("PATCH", location, b"x"))[1] == "BLOB_UPLOAD_UNKNOWN"
    assert error(client("PATCH", f"{ROOT}/blobs/uploads/..", b"x"))[1] == "BLOB_UPLOAD_UNKNOWN"


def test_blobs_belong_to_repositories_and_are_mounted_between_them(client):
    client.api("CreateRepository", repositoryName="other")
    digest = client.push_blob("team/model", b"layer")["digest"]
    assert error(client("GET", f"/v2/other/blobs/{digest}"))[1] == "BLOB_UNKNOWN"
    query = f"mount={digest}&from=team/model"
    assert client("POST", "/v2/other/blobs/uploads/", query=query).status == 201
    assert client("GET", f"/v2/other/blobs/{digest}").body == b"layer"
    missing = f"mount={digest_of(b'no')}&from=team/model"
    assert client("POST", "/v2/other/blobs/uploads/", query=missing).status == 202


@pytest.mark.parametrize("media_type", [DOCKER, OCI])
def test_a_manifest_comes_back_as_it_was_pushed(client, media_type):
    digest = client.push("team/model", "v1", media_type)
    for reference in ("v1", digest):
        answer = client("GET", f"{ROOT}/manifests/{reference}")
        assert answer.headers["Content-Type"] == media_type
        assert digest_of(answer.body) == digest == answer.headers["Docker-Content-Digest"]
        head = client("HEAD", f"{ROOT}/manifests/{reference}")
        assert head.body == b""
        assert head.headers["Content-Length"] == str(len(answer.body))
    assert error(client("GET", f"{ROOT}/manifests/v2"))[:2] == (404, "MANIFEST_UNKNOWN")


def test_a_list_names_images_that_are_there(client):
    digest = client.push("team/model", "v1")
    entry = {"digest": digest, "size": 1, "mediaType": DOCKER}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    assert client("PUT", f"{ROOT}/manifests/all", index, content_type=INDEX).status == 201
    entry["digest"] = digest_of(b"no")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    answer = client("PUT", f"{ROOT}/manifests/all", index, content_type=INDEX)
    assert error(answer)[1] == "MANIFEST_BLOB_UNKNOWN"


def manifest(**changes):
    layer = {"digest": digest_of(b"no"), "size": 1}
    return {"schemaVersion": 2, "mediaType": DOCKER, "config": layer, "layers": []} | changes


@pytest.mark.parametrize(
    ("document", "reference", "code"),
    [
        (manifest(), "v1", "MANIFEST_BLOB_UNKNOWN"),
        (manifest(), digest_of(b"x"), "DIGEST_INVALID"),
        (manifest(), "-bad", "MANIFEST_INVALID"),
        (manifest(mediaType=OCI), "v1", "MANIFEST_INVALID"),
        (manifest(config=None), "v1", "MANIFEST_INVALID"),
        (manifest(config={"digest": "x", "size": 1}), "v1", "MANIFEST_INVALID"),
        (manifest(layers={}), "v1", "MANIFEST_INVALID"),
        ([], "v1", "MANIFEST_INVALID"),
    ],
)
def test_manifests_that_are_refused(client, document, reference, code):
    body = json.dumps(document).encode()
    answer = client("PUT", f"{ROOT}/manifests/{reference}", body, content_type=DOCKER)
    assert error(answer)[1] == code
    assert client("GET", f"{ROOT}/manifests/v1").status == 404


def test_an_immutable_tag(client):
    client.api("PutImageTagMutability", repositoryName="team/model", imageTagMutability="IMMUTABLE")
    client.push("team/model", "v1")
    client.push("team/model", "v1")
    with pytest.raises(AssertionError, match="cannot be overwritten because the tag is immutable"):
        client.push("team/model", "v1", layers=(b"other",))
    client.api(
        "PutImageTagMutability",
        repositoryName="team/model",
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "latest*"}],
    )
    client.push("team/model", "latest")
    client.push("team/model", "latest", layers=(b"other",))


def test_tags_in_pages(client):
    for tag in ("b", "a", "c"):
        client.push("team/model", tag)
    assert json.loads(client("GET", f"{ROOT}/tags/list").body)["tags"] == ["a", "b", "c"]
    page = client("GET", f"{ROOT}/tags/list", query="n=2")
    assert json.loads(page.body)["tags"] == ["a", "b"]
    assert page.headers["Link"] == f'<{ROOT}/tags/list?n=2&last=b>; rel="next"'
    last = client("GET", f"{ROOT}/tags/list", query="n=2&last=b")
    assert json.loads(last.body)["tags"] == ["c"]
    assert "Link" not in last.headers


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/v2/_catalog"), ("DELETE", f"{ROOT}/manifests/v1"), ("GET", "/v2/UPPER/tags/list")],
)
def test_what_the_registry_does_not_have(client, method, target):
    assert error(client(method, target))[1] == "UNSUPPORTED"
