"""Endpoint rules that send every STS client of botocore to the region.

Both SageMaker SDKs build `https://sts.REGION.amazonaws.com` themselves for
`get_execution_role()`, `Session().account_id()` and `default_bucket()`. A URL that a program gives
wins over every variable and profile. botocore still asks the service's endpoint rules where to
send a request, and it looks for these rules in the folders of AWS_DATA_PATH first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.contract.files import write_atomically

VARIABLE = "AWS_DATA_PATH"
FOLDER = "botocore"
"""Below the state folder. botocore expects FOLDER/SERVICE/VERSION/FILE and nothing else in it."""
_RULES = Path("sts", "2011-06-15", "endpoint-rule-set-1.json")
_PARAMETERS = {
    "Region": ("AWS::Region", "string"),
    "UseDualStack": ("AWS::UseDualStack", "boolean"),
    "UseFIPS": ("AWS::UseFIPS", "boolean"),
    "Endpoint": ("SDK::Endpoint", "string"),
    "UseGlobalEndpoint": ("AWS::STS::UseGlobalEndpoint", "boolean"),
}
"""What botocore passes to the rules of STS; it refuses a parameter that they do not declare."""


def write(state: Path, url: str) -> None:
    """Write the rules for the region at `url`; a region that starts again overwrites them."""
    write_atomically(state / FOLDER / _RULES, json.dumps(_rule_set(url)).encode())


def data_path(state: Path, environ: Mapping[str, str]) -> str:
    """Return the value of AWS_DATA_PATH: the folder of the rules before those that are set."""
    own = str(state / FOLDER)
    others = [each for each in environ.get(VARIABLE, "").split(os.pathsep) if each]
    return os.pathsep.join([own, *(each for each in others if each != own)])


def _rule_set(url: str) -> dict[str, object]:
    signature = {"name": "sigv4", "signingName": "sts", "signingRegion": "{Region}"}
    endpoint = {"url": url, "properties": {"authSchemes": [signature]}, "headers": {}}
    return {
        "version": "1.0",
        "parameters": {
            name: {"builtIn": built_in, "type": kind, "required": False, "documentation": ""}
            for name, (built_in, kind) in _PARAMETERS.items()
        },
        "rules": [{"conditions": [], "type": "endpoint", "endpoint": endpoint}],
    }
