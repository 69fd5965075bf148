"""A repository made as wanted, and left alone where nothing is asked for."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import AwsError
from sagemaker_byoc.contract.errors import RequestError

WANTED = ecr.WantedRepository(name="mine", account="123456789012")


def ensure(cloud, wanted):
    """Make the calls, as `byoc push` does one by one."""
    ensuring = ecr.Ensuring(cloud, wanted)
    for _, _, act in ensuring.steps():
        act()
    return ensuring.repository


class Played:
    """A cloud of one repository, which remembers what was done to it."""

    def __init__(self, *, repository=None, policy=None):
        self.repository, self.policy = repository, policy
        self.calls = []

    def call(self, call):
        self.calls.append(call.operation)
        answer = getattr(self, call.method)
        return answer(call.parameters)

    def describe_repositories(self, _):
        if self.repository is None:
            raise AwsError("RepositoryNotFoundException", "no", hint="")
        return {"repositories": [self.repository]}

    def create_repository(self, parameters):
        self.repository = {"repositoryUri": "host/mine", **parameters}
        return {"repository": self.repository}

    def put_image_tag_mutability(self, parameters):
        self.repository |= parameters

    put_image_scanning_configuration = put_image_tag_mutability

    def get_lifecycle_policy(self, _):
        if self.policy is None:
            raise AwsError("LifecyclePolicyNotFoundException", "no", hint="")
        return {"lifecyclePolicyText": self.policy}

    def put_lifecycle_policy(self, parameters):
        self.policy = parameters["lifecyclePolicyText"]

    @property
    def changes(self):
        return [name for name in self.calls if not name.startswith(("Describe", "Get"))]


def test_a_missing_one_is_made_once():
    cloud = Played()
    wanted = replace(WANTED, mutability=ecr.IMMUTABLE, scan_on_push=True, untagged_kept=3)
    made = ensure(cloud, wanted)
    assert made.uri == "host/mine"
    assert made.mutability == ecr.IMMUTABLE
    assert made.done == ("created", "the last 3 untagged images kept")
    cloud.calls.clear()
    assert ensure(cloud, wanted).done == ()
    assert cloud.changes == []


def test_what_is_not_asked_for_stays():
    cloud = Played(repository={"repositoryUri": "host/mine", "imageTagMutability": ecr.IMMUTABLE})
    assert ensure(cloud, WANTED) == ecr.Repository("host/mine", ecr.IMMUTABLE, ())
    assert cloud.calls == ["DescribeRepositories"]


def test_what_is_asked_for_is_changed():
    cloud = Played(repository={"repositoryUri": "host/mine", "imageTagMutability": ecr.IMMUTABLE})
    wanted = replace(WANTED, mutability=ecr.MUTABLE, scan_on_push=True, untagged_kept=2)
    assert ensure(cloud, wanted).mutability == ecr.MUTABLE
    assert cloud.changes == [
        "PutImageTagMutability",
        "PutImageScanningConfiguration",
        "PutLifecyclePolicy",
    ]
    assert json.loads(cloud.policy)["rules"][0]["selection"]["countNumber"] == 2
    assert ensure(cloud, replace(wanted, untagged_kept=9)).done[-1].startswith("the last 9")


@pytest.mark.parametrize("policy", ['{"rules": [{"description": "theirs"}]}', "[]", "not JSON"])
def test_somebody_elses_lifecycle_is_not_replaced(policy):
    cloud = Played(repository={"repositoryUri": "host/mine"}, policy=policy)
    with pytest.raises(RequestError, match="already has another lifecycle policy") as caught:
        ensure(cloud, replace(WANTED, untagged_kept=2))
    assert "Leave --lifecycle out" in caught.value.hint
    assert cloud.policy == policy


def test_somebody_else_was_quicker_to_make_it():
    class Raced(Played):
        def create_repository(self, parameters):
            super().create_repository(parameters)
            raise AwsError("RepositoryAlreadyExistsException", "there", hint="")

    assert ensure(Raced(), WANTED).uri == "host/mine"


def test_a_refusal_is_passed_on():
    class Denied(Played):
        def describe_repositories(self, _):
            raise AwsError("AccessDeniedException", "not you", hint="ask")

    with pytest.raises(AwsError, match="not you"):
        ensure(Denied(), WANTED)


def test_a_password_with_colons_in_it():
    token = base64.b64encode(b"AWS:a:b:S:").decode()
    cloud = Played()
    cloud.get_authorization_token = lambda _: {
        "authorizationData": [{"authorizationToken": token, "proxyEndpoint": "https://host"}]
    }
    assert ecr.log_in(cloud) == ecr.Authorization("AWS", "a:b:S:", "https://host")
    token = "%%%"
    with pytest.raises(AwsError, match="token is not valid"):
        ecr.log_in(cloud)
