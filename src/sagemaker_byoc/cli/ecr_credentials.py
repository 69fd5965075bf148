"""A docker credential helper that asks ECR: `get`, a registry's name on stdin, a login on stdout.

The protocol is docker's (docker/docker-credential-helpers); refusals go to stdout too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import Cloud
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.host.registry_images import ecr_host

_NOTHING = "credentials not found in native keychain"
"""The refusal after which docker continues without a login."""


def main(arguments: Sequence[str]) -> int:
    if list(arguments) == ["list"]:
        print("{}")
        return 0
    if list(arguments) != ["get"]:  # store, erase: nothing is kept here
        return 0
    server = sys.stdin.read().strip()
    host = ecr_host(server.removeprefix("https://").rstrip("/"))
    if host is None:
        print(_NOTHING)
        return 1
    try:
        found = ecr.log_in(Cloud(host.region))
    except ByocError as error:
        print(f"{error.what}. {error.hint}")
        return 1
    print(json.dumps({"ServerURL": server, "Username": found.user, "Secret": found.password}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
