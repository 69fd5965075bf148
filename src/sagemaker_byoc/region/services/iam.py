"""IAM: the execution role and its policies, as far as clients and SDKs ask.

A role of any name exists and trusts SageMaker: a script names a role of the user's real account.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from sagemaker_byoc.region.core.account import Account, unique_id
from sagemaker_byoc.region.wire.operations import Operations, Parameters

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


class Iam:
    def __init__(self, account: Account) -> None:
        self._account = account
        self._role_name = account.role.rpartition("/")[2]

    def operations(self) -> Operations:
        return {
            "GetRole": self._get_role,
            "ListAttachedRolePolicies": self._list_attached_role_policies,
            "ListRolePolicies": self._list_role_policies,
            "ListRoles": self._list_roles,
            "SimulatePrincipalPolicy": self._simulate_principal_policy,
        }

    def _get_role(self, parameters: Parameters) -> Parameters:
        return {"Role": self._role(parameters["RoleName"])}

    def _list_roles(self, _parameters: Parameters) -> Parameters:
        return {"Roles": [self._role(self._role_name)], "IsTruncated": False}

    def _list_attached_role_policies(self, _parameters: Parameters) -> Parameters:
        policy = {"PolicyName": _POLICY, "PolicyArn": f"arn:aws:iam::aws:policy/{_POLICY}"}
        return {"AttachedPolicies": [policy], "IsTruncated": False}

    def _list_role_policies(self, _parameters: Parameters) -> Parameters:
        return {"PolicyNames": [], "IsTruncated": False}

    def _simulate_principal_policy(self, parameters: Parameters) -> Parameters:
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
            "RoleId": unique_id("AROA", name),
            "Arn": self._account.role if own else self._account.arn("iam", f"role/{name}"),
            "CreateDate": _CREATED,
            "AssumeRolePolicyDocument": quote(json.dumps(_TRUST), safe=""),
            "MaxSessionDuration": 3600,
        }
