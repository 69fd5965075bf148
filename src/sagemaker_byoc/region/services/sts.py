"""STS: the caller's identity, and temporary credentials of any role.

Any role can be assumed, because a script names a role of the user's real account.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sagemaker_byoc.region.core.account import Account, Credentials, caller_arn, unique_id
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

ROLE_SECONDS = 3600
"""Life of the credentials of AssumeRole [model: AssumeRole$DurationSeconds]."""
SESSION_SECONDS = 12 * 3600
"""Life of the credentials of GetSessionToken [model: GetSessionToken$DurationSeconds]."""


class Sts:
    def __init__(self, account: Account, credentials: Credentials) -> None:
        self._account = account
        self._credentials = credentials

    def operations(self) -> Operations:
        return {
            "AssumeRole": self._assume_role,
            "GetCallerIdentity": self._get_caller_identity,
            "GetSessionToken": self._get_session_token,
        }

    def _get_caller_identity(self, _parameters: Parameters) -> Parameters:
        """Return the assumed role, which is the execution role for the owner of the region:
        get_execution_role() of the SDKs finds it so.
        """
        arn = caller_arn(self._account)
        _, role, session = arn.split("/")
        return {
            "UserId": f"{unique_id('AROA', role)}:{session}",
            "Account": self._account.id,
            "Arn": arn,
        }

    def _assume_role(self, parameters: Parameters) -> Parameters:
        role, session = parameters["RoleArn"], parameters["RoleSessionName"]
        if ":role/" not in role:
            raise AwsError("ValidationError", f"{role} is invalid")
        arn = self._account.session_arn(role, session)
        seconds = parameters.get("DurationSeconds", ROLE_SECONDS)
        return {
            "Credentials": self._issue(arn, seconds),
            "AssumedRoleUser": {
                "AssumedRoleId": f"{unique_id('AROA', role.rpartition('/')[2])}:{session}",
                "Arn": arn,
            },
        }

    def _get_session_token(self, parameters: Parameters) -> Parameters:
        seconds = parameters.get("DurationSeconds", SESSION_SECONDS)
        return {"Credentials": self._issue(self._account.execution_session, seconds)}

    def _issue(self, arn: str, seconds: int) -> dict[str, Any]:
        expires = now() + timedelta(seconds=seconds)
        keys = self._credentials.issue(arn, expires)
        return {
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key,
            "SessionToken": keys.token,
            "Expiration": expires,
        }
