"""The ecr API."""

from __future__ import annotations

import contextlib
import json
import os
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from tests.support.members import unread_members
from tests.unit.region.services.ecr.conftest import DOCKER, OCI, Client, digest_of

from sagemaker_byoc.contract import folders
from sagemaker_byoc.region.services.ecr.distribution import PATH_LIFETIME
from sagemaker_byoc.region.wire.operations import AwsError

NAME = {"repositoryName": "team/model"}
INDEX = "application/vnd.oci.image.index.v1+json"


def test_repositories(client, tmp_path):
    (found,) = client.api("DescribeRepositories")["repositories"]
    assert found["repositoryUri"] == "127.0.0.1:5000/team/model"
    assert found["repositoryArn"] == "arn:aws:ecr:us-east-1:000000000000:repository/team/model"
    with pytest.raises(AwsError, match="RepositoryAlreadyExistsException"):
        client.api("CreateRepository", **NAME)
    with pytest.raises(AwsError, match="RepositoryNotFoundException"):
        client.api("DescribeRepositories", repositoryNames=["nope"])
    with pytest.raises(AwsError, match=r"RepositoryNotFoundException.*'111122223333'"):
        client.api("ListImages", registryId="111122223333", **NAME)
    for number in range(3):
        client.api("CreateRepository", repositoryName=f"r{number}")
    names, token = [], {}
    for _ in range(2):
        page = client.api("DescribeRepositories", maxResults=2, **token)
        names += [repository["repositoryName"] for repository in page["repositories"]]
        token = {"nextToken": page.get("nextToken")}
    assert names == ["r0", "r1", "r2", "team/model"]
    assert token == {"nextToken": None}
    assert len(Client(tmp_path).api("DescribeRepositories")["repositories"]) == 4


def test_what_is_told_of_images(client):
    digest = client.push("team/model", "v1", layers=(b"12345", b"678"))
    client.push("team/model", "v2", layers=(b"12345", b"678"))
    other = client.push("team/model", "oci", OCI)
    details = client.api("DescribeImages", **NAME)["imageDetails"]
    (detail,) = (detail for detail in details if detail["imageDigest"] == digest)
    assert detail["imageTags"] == ["v1", "v2"]
    assert detail["imageSizeInBytes"] == 10
    assert detail["imageManifestMediaType"] == DOCKER
    assert detail["imagePushedAt"] - datetime.now(UTC) < timedelta(minutes=1)
    (one,) = client.api("DescribeImages", imageIds=[{"imageTag": "oci"}], **NAME)["imageDetails"]
    assert one["imageDigest"] == other
    with pytest.raises(AwsError, match=r"ImageNotFoundException.*imageTag:'nope'"):
        client.api("DescribeImages", imageIds=[{"imageTag": "nope"}], **NAME)
    ids = client.api("ListImages", **NAME)["imageIds"]
    assert {image_id["imageTag"] for image_id in ids} == {"v1", "v2", "oci"}


def test_the_size_of_a_list_is_that_of_its_largest_image(client):
    members = [
        client.push("team/model", "a", OCI, (b"12345",)),
        client.push("team/model", "b", OCI),
    ]
    entries = [{"digest": each, "size": 9, "mediaType": OCI} for each in members]
    index = {"mediaType": INDEX, "schemaVersion": 2, "manifests": entries}
    put = client.api("PutImage", imageManifest=json.dumps(index), imageTag="all", **NAME)
    digest = put["image"]["imageId"]["imageDigest"]
    outer = {**index, "manifests": [{"digest": digest, "size": 9, "mediaType": INDEX}]}
    client.api("PutImage", imageManifest=json.dumps(outer), imageTag="outer", **NAME)
    for tag in ("all", "outer"):
        (found,) = client.api("DescribeImages", imageIds=[{"imageTag": tag}], **NAME)[
            "imageDetails"
        ]
        assert found["imageSizeInBytes"] == 7
        assert "artifactMediaType" not in found


def test_an_image_whose_configuration_has_no_media_type_is_described(client):
    """OCI clients may leave it out; and a signature names its subject."""
    config = client.push_blob("team/model", b"{}")
    subject = {"mediaType": OCI, "size": 9, "digest": client.push("team/model", "v1", OCI)}
    manifest = {"mediaType": OCI, "schemaVersion": 2, "layers": [], "subject": subject}
    manifest["config"] = {key: config[key] for key in ("digest", "size")}
    client.api("PutImage", imageManifest=json.dumps(manifest), imageTag="bare", **NAME)
    (found,) = client.api("DescribeImages", imageIds=[{"imageTag": "bare"}], **NAME)["imageDetails"]
    assert "artifactMediaType" not in found
    assert found["subjectManifestDigest"] == subject["digest"]


def test_batch_get_image(client):
    digest = client.push("team/model", "v1")
    oci = client.push("team/model", "oci", OCI)
    found = client.api(
        "BatchGetImage",
        imageIds=[
            {"imageTag": "v1"},
            {"imageTag": "nope"},
            {"imageTag": "v1", "imageDigest": oci},
            {"imageDigest": "sha256:no"},
            {},
            {"imageTag": "oci"},
        ],
        acceptedMediaTypes=[DOCKER],
        **NAME,
    )
    (image,) = found["images"]
    assert image["imageId"] == {"imageTag": "v1", "imageDigest": digest}
    assert digest_of(image["imageManifest"].encode()) == digest
    assert [failure["failureCode"] for failure in found["failures"]] == [
        "ImageNotFound",
        "ImageTagDoesNotMatchDigest",
        "InvalidImageDigest",
        "MissingDigestAndTag",
        "ImageNotFound",
    ]


def test_a_layer_has_a_url_of_its_own(client):
    """One that opens this layer, for an hour, without a token."""
    client.push("team/model", "v1")
    layer = digest_of(b"layer")
    found = client.api("GetDownloadUrlForLayer", layerDigest=layer, **NAME)
    assert found["layerDigest"] == layer
    url = urlsplit(found["downloadUrl"])
    assert url.netloc == "127.0.0.1:5000"
    config = url.path.replace(layer, digest_of(b"{}"))
    late = url.query.replace("expires=", "expires=9")
    gone = client.registry._tokens.signed(url.path, datetime.now(UTC) - PATH_LIFETIME)
    for method, path, query, status in (
        ("GET", url.path, url.query, 200),
        ("HEAD", url.path, url.query, 401),
        ("GET", config, url.query, 401),
        ("GET", url.path, late, 401),
        ("GET", url.path, gone.partition("?")[2], 401),
        ("GET", url.path, "expires=x&signature=é", 401),
        ("GET", url.path, "", 401),
    ):
        answer = client(method, path, query=query, authorization="")
        assert (answer.status, answer.body == b"layer") == (status, status == 200)


def test_a_layer_without_a_url(client):
    loose = client.push_blob("team/model", b"loose")["digest"]
    for digest, code in (
        (loose, "LayerInaccessibleException"),
        (digest_of(b"other"), "LayersNotFoundException"),
        ("md5:00", "LayersNotFoundException"),
    ):
        with pytest.raises(AwsError, match=code):
            client.api("GetDownloadUrlForLayer", layerDigest=digest, **NAME)
    with pytest.raises(AwsError, match="RepositoryNotFoundException"):
        client.api("GetDownloadUrlForLayer", layerDigest=loose, repositoryName="none")


def test_put_image_gives_an_image_another_tag(client):
    digest = client.push("team/model", "v1")
    (image,) = client.api("BatchGetImage", imageIds=[{"imageTag": "v1"}], **NAME)["images"]
    manifest = {"imageManifest": image["imageManifest"]}
    put = client.api("PutImage", imageTag="v2", **manifest, **NAME)
    assert put["image"]["imageId"] == {"imageTag": "v2", "imageDigest": digest}
    with pytest.raises(AwsError, match="ImageAlreadyExistsException"):
        client.api("PutImage", imageTag="v2", **manifest, **NAME)


def test_deleting_images(client):
    client.push("team/model", "v1")
    client.push("team/model", "v2")
    client.push("team/model", "v3", layers=(b"other",))
    client.api("BatchDeleteImage", imageIds=[{"imageTag": "v1"}], **NAME)
    assert len(client.api("DescribeImages", **NAME)["imageDetails"]) == 2
    client.api("BatchDeleteImage", imageIds=[{"imageTag": "v2"}], **NAME)
    (left,) = client.api("DescribeImages", **NAME)["imageDetails"]
    assert left["imageTags"] == ["v3"]
    gone = client.api("BatchDeleteImage", imageIds=[{"imageTag": "v2"}], **NAME)
    assert gone["failures"][0]["failureCode"] == "ImageNotFound"
    with pytest.raises(AwsError, match="RepositoryNotEmptyException"):
        client.api("DeleteRepository", **NAME)
    client.api("DeleteRepository", force=True, **NAME)
    with pytest.raises(AwsError, match="RepositoryNotFoundException"):
        client.api("ListImages", **NAME)


def test_blobs_that_no_image_needs_go_once_no_push_can_be_under_way(client, tmp_path):
    client.push("team/model", "old", layers=(b"old", b"shared"))
    client.push("team/model", "new", layers=(b"shared",))
    fresh = client.push_blob("team/model", b"being pushed")["digest"]
    blobs = client.registry.repositories.blobs
    past = time.time() - 7200
    for path in tmp_path.rglob("*"):
        if path.is_file() and digest_of(b"being pushed").partition(":")[2] not in path.name:
            os.utime(path, (past, past))
    client.api("BatchDeleteImage", imageIds=[{"imageTag": "old"}], **NAME)
    assert not blobs.has(digest_of(b"old"))
    assert blobs.has(digest_of(b"shared"))
    assert blobs.has(fresh)
    assert client("GET", "/v2/team/model/manifests/new").status == 200


def test_layers(client):
    layer = client.push_blob("team/model", b"12345")["digest"]
    found = client.api(
        "BatchCheckLayerAvailability",
        layerDigests=[layer, digest_of(b"no"), "nonsense"],
        **NAME,
    )
    assert [entry["layerAvailability"] for entry in found["layers"]] == ["AVAILABLE", "UNAVAILABLE"]
    assert found["layers"][0]["layerSize"] == 5
    assert found["failures"][0]["failureCode"] == "InvalidLayerDigest"


STATEMENT = {"Effect": "Allow", "Principal": "*", "Action": ["ecr:BatchGetImage"]}
RULE = {
    "rulePriority": 1,
    "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1},
    "action": {"type": "expire"},
}


@pytest.mark.parametrize(
    ("kind", "key", "document"),
    [
        ("RepositoryPolicy", "policyText", {"Version": "2012-10-17", "Statement": [STATEMENT]}),
        ("LifecyclePolicy", "lifecyclePolicyText", {"rules": [RULE]}),
    ],
)
def test_policies_are_remembered(client, kind, key, document):
    put = "SetRepositoryPolicy" if kind == "RepositoryPolicy" else "PutLifecyclePolicy"
    get, delete = f"Get{kind}", f"Delete{kind}"
    with pytest.raises(AwsError, match="PolicyNotFoundException"):
        client.api(get, **NAME)
    text = json.dumps(document)
    client.api(put, **{key: text}, **NAME)
    found = client.api(get, **NAME)
    assert found[key] == text
    assert ("lastEvaluatedAt" in found) == (kind == "LifecyclePolicy")
    client.api(delete, **NAME)
    with pytest.raises(AwsError, match="PolicyNotFoundException"):
        client.api(get, **NAME)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"Statement": []}',
        json.dumps({"Statement": [{**STATEMENT, "Action": None}]}),
        json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*"}]}),
        json.dumps({"Statement": [{"Effect": "Allow", "Action": "ecr:*"}]}),
        json.dumps({"Statement": [{**STATEMENT, "Effect": "Maybe"}]}),
        json.dumps({"Statement": [{**STATEMENT, "Action": "s3:GetObject"}]}),
        json.dumps({"Statement": [STATEMENT], "Version": "2020-01-01"}),
        json.dumps({"Statement": [STATEMENT], "Version": []}),
        json.dumps({"Statement": [STATEMENT | {"Effect": {}}]}),
        json.dumps({"Statement": [{**STATEMENT, "Actions": "ecr:*"}]}),
    ],
)
def test_policies_that_are_not_are_refused(client, text):
    with pytest.raises(AwsError, match=r"InvalidParameterException.*'PolicyText'"):
        client.api("SetRepositoryPolicy", policyText=text, **NAME)


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [RULE, RULE],
        [{**RULE, "action": {}}],
        [{**RULE, "action": {"type": []}}],
        [{**RULE, "selection": {}}],
        [{**RULE, "selection": RULE["selection"] | {"tagStatus": []}}],
        [{**RULE, "selection": RULE["selection"] | {"countType": {}}}],
        [1],
    ],
)
def test_lifecycle_rules_that_are_not_are_refused(client, rules):
    with pytest.raises(AwsError, match=r"InvalidParameterException.*LifecyclePolicyText"):
        client.api("PutLifecyclePolicy", lifecyclePolicyText=json.dumps({"rules": rules}), **NAME)


def test_the_encryption_of_a_repository_comes_back(client):
    (found,) = client.api("DescribeRepositories")["repositories"]
    assert found["encryptionConfiguration"] == {"encryptionType": "AES256"}
    for number, (asked, expected) in enumerate(
        [
            ({"encryptionType": "KMS"}, "arn:aws:kms:us-east-1:000000000000:alias/aws/ecr"),
            ({"encryptionType": "KMS", "kmsKey": "arn:of:mine"}, "arn:of:mine"),
        ]
    ):
        made = client.api(
            "CreateRepository", repositoryName=f"k{number}", encryptionConfiguration=asked
        )
        encryption = made["repository"]["encryptionConfiguration"]
        assert encryption == {"encryptionType": "KMS", "kmsKey": expected}
    with pytest.raises(AwsError, match=r"InvalidParameterException.*kmsKey"):
        client.api(
            "CreateRepository",
            repositoryName="no",
            encryptionConfiguration={"encryptionType": "AES256", "kmsKey": "k"},
        )


def test_no_member_of_a_request_is_ignored(client):
    """Each is read by its operation, whatever comes of it."""

    def prepare():
        with contextlib.suppress(AwsError):
            client.api("CreateRepository", **NAME)

    unread = unread_members(
        "ecr",
        client.operations,
        prepare,
        repositoryName="team/model",
        resourceArn="arn:aws:ecr:us-east-1:000000000000:repository/team/model",
        policyText=json.dumps({"Statement": [STATEMENT]}),
        lifecyclePolicyText=json.dumps({"rules": [RULE]}),
        imageManifest=json.dumps(
            {
                "mediaType": DOCKER,
                "config": {"digest": digest_of(b""), "size": 0},
                "layers": [],
            }
        ),
    )
    unread -= {"SetRepositoryPolicy.force"}  # policies shut nobody out here
    assert not unread, "\n".join(sorted(unread))


def test_tags(client):
    arn = {"resourceArn": "arn:aws:ecr:us-east-1:000000000000:repository/team/model"}
    client.api("TagResource", tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}], **arn)
    client.api("UntagResource", tagKeys=["a"], **arn)
    assert client.api("ListTagsForResource", **arn)["tags"] == [{"Key": "b", "Value": "2"}]
    with pytest.raises(AwsError, match="InvalidParameterException"):
        client.api("ListTagsForResource", resourceArn="arn:aws:s3:::b")


def test_what_a_deletion_left_is_not_in_the_next_repository(client, monkeypatch):
    """Images of a repository whose folder could not be removed."""
    client.push("team/model", "latest")
    monkeypatch.setattr(folders, "remove", lambda _: None)
    client.api("DeleteRepository", force=True, **NAME)
    client.api("CreateRepository", **NAME)
    assert client.api("ListImages", **NAME)["imageIds"] == []
