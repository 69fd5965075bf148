"""STS and IAM: who is calling, and the execution role, as far as clients and SDKs ask.

Nothing is forbidden here. A script carries the name of its own role, so every name is that of a
role which SageMaker may assume.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.credentials import CALLER, Credentials
from sagemaker_byoc.region.wire.errors import AwsError
from sagemaker_byoc.region.wire.operations import Operation, Parameters

SESSION = "local"
DEFAULT_SECONDS = 3600
"""Of AssumeRole's credentials [model: AssumeRole$DurationSeconds]."""
_CREATED = datetime(2017, 11, 29, tzinfo=UTC)
_POLICY = "AmazonSageMakerFullAccess"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


class Identity:
    """The operations of both services."""

    def __init__(self, account: Account, credentials: Credentials) -> None:
        self._account = account
        self._credentials = credentials
        self._role_name = account.role.rpartition("/")[2]

    def sts(self) -> Mapping[str, Operation]:
        return {
            "AssumeRole": self._assume_role,
            "GetCallerIdentity": self._get_caller_identity,
            "GetSessionToken": self._get_session_token,
        }

    def iam(self) -> Mapping[str, Operation]:
        return {
            "GetRole": self._get_role,
            "ListAttachedRolePolicies": self._list_attached_role_policies,
            "ListRolePolicies": self._list_role_policies,
            "ListRoles": self._list_roles,
            "SimulatePrincipalPolicy": self._simulate_principal_policy,
        }

    @property
    def execution_session(self) -> str:
        """The ARN under which the execution role works."""
        return self._session_arn(self._role_name, SESSION)

    async def _get_caller_identity(self, _parameters: Parameters) -> Parameters:
        """Return the assumed role, which is the execution role for the owner of the region:
        get_execution_role() of the SDKs finds it so.
        """
        caller = CALLER.get()
        arn = (caller.arn if caller else "") or self.execution_session
        _, role, session = arn.split("/")
        return {
            "UserId": f"{_unique_id('AROA', role)}:{session}",
            "Account": self._account.id,
            "Arn": arn,
        }

    async def _assume_role(self, parameters: Parameters) -> Parameters:
        role, session = parameters["RoleArn"], parameters["RoleSessionName"]
        name = role.rpartition("/")[2]
        if ":role/" not in role:
            raise AwsError("ValidationError", f"{role} is invalid")
        arn = self._session_arn(name, session)
        seconds = parameters.get("DurationSeconds", DEFAULT_SECONDS)
        return {
            "Credentials": self._issue(arn, seconds),
            "AssumedRoleUser": {
                "AssumedRoleId": f"{_unique_id('AROA', name)}:{session}",
                "Arn": arn,
            },
        }

    async def _get_session_token(self, parameters: Parameters) -> Parameters:
        seconds = parameters.get("DurationSeconds", 12 * 3600)
        return {"Credentials": self._issue(self.execution_session, seconds)}

    async def _get_role(self, parameters: Parameters) -> Parameters:
        return {"Role": self._role(parameters["RoleName"])}

    async def _list_roles(self, _parameters: Parameters) -> Parameters:
        return {"Roles": [self._role(self._role_name)], "IsTruncated": False}

    async def _list_attached_role_policies(self, _parameters: Parameters) -> Parameters:
        policy = {"PolicyName": _POLICY, "PolicyArn": f"arn:aws:iam::aws:policy/{_POLICY}"}
        return {"AttachedPolicies": [policy], "IsTruncated": False}

    async def _list_role_policies(self, _parameters: Parameters) -> Parameters:
        return {"PolicyNames": [], "IsTruncated": False}

    async def _simulate_principal_policy(self, parameters: Parameters) -> Parameters:
        results = [
            {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": "allowed"}
            for action in parameters["ActionNames"]
            for resource in parameters.get("ResourceArns", ["*"])
        ]
        return {"EvaluationResults": results, "IsTruncated": False}

    def _role(self, name: str) -> dict[str, Any]:
        own = name == self._role_name
        return {
            "Path": "/service-role/" if own else "/",
            "RoleName": name,
            "RoleId": _unique_id("AROA", name),
            "Arn": self._account.role if own else self._account.arn("iam", f"role/{name}"),
            "CreateDate": _CREATED,
            "AssumeRolePolicyDocument": quote(json.dumps(_TRUST), safe=""),
            "MaxSessionDuration": 3600,
        }

    def _issue(self, arn: str, seconds: int) -> dict[str, Any]:
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
        keys = self._credentials.issue(arn, expires)
        return {
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key,
            "SessionToken": keys.token,
            "Expiration": expires,
        }

    def _session_arn(self, role: str, session: str) -> str:
        return f"arn:aws:sts::{self._account.id}:assumed-role/{role}/{session}"


def _unique_id(kind: str, name: str) -> str:
    """Of IAM's form, and the same after a restart."""
    return kind + hashlib.sha256(name.encode()).hexdigest()[:17].upper()
