"""Checks of repository and lifecycle policies, as ECR makes them."""

from __future__ import annotations

import json
from typing import Any

from sagemaker_byoc.region.services.ecr.repositories import invalid
from sagemaker_byoc.region.wire.operations import AwsError

_VERSIONS = ("2008-10-17", "2012-10-17")
_ELEMENTS = {
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource",
    "Condition",
}  # fmt: skip
_COUNTS = ("imageCountMoreThan", "sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned")


def check_repository_policy(text: str) -> None:
    """Raise AwsError InvalidParameterException if it is not a resource policy of ECR."""
    document = _loads(text)
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    is_valid = (
        document.keys() <= {"Version", "Id", "Statement"}
        and document.get("Version", "2012-10-17") in _VERSIONS
        and isinstance(statements, list)
        and bool(statements)
        and all(map(_is_statement, statements))
    )
    if not is_valid:
        raise invalid("PolicyText", "'Invalid repository policy provided'")


def check_lifecycle_policy(text: str) -> None:
    """Raise AwsError InvalidParameterException."""
    rules = _loads(text).get("rules")
    if not isinstance(rules, list) or not rules or not all(map(_is_rule, rules)):
        raise _invalid_lifecycle("every rule needs rulePriority, selection and action")
    priorities = [rule["rulePriority"] for rule in rules]
    if len(set(priorities)) < len(priorities):
        raise _invalid_lifecycle("rulePriority must be unique")


def _loads(text: str) -> dict[str, Any]:
    """Return the document; an empty one, which no check accepts, if it is not a JSON object."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_statement(statement: Any) -> bool:
    if not isinstance(statement, dict) or not statement.keys() <= _ELEMENTS:
        return False
    actions = [statement[name] for name in ("Action", "NotAction") if name in statement]
    principals = [statement[name] for name in ("Principal", "NotPrincipal") if name in statement]
    return (
        statement.get("Effect") in ("Allow", "Deny")
        and len(actions) == len(principals) == 1
        and all(_is_action(action) for action in _list(actions[0]))
        and bool(_list(actions[0]))
        and _is_principal(principals[0])
    )


def _is_action(action: Any) -> bool:
    return isinstance(action, str) and (action == "*" or action.lower().startswith("ecr:"))


def _is_principal(principal: Any) -> bool:
    if isinstance(principal, dict):
        kinds = {"AWS", "Service", "Federated", "CanonicalUser"}
        return bool(principal) and principal.keys() <= kinds
    return bool(principal == "*")


def _is_rule(rule: Any) -> bool:
    if not isinstance(rule, dict) or not isinstance(rule.get("rulePriority"), int):
        return False
    selection, action = rule.get("selection"), rule.get("action")
    return (
        isinstance(selection, dict)
        and selection.get("tagStatus") in ("tagged", "untagged", "any")
        and selection.get("countType") in _COUNTS
        and isinstance(selection.get("countNumber"), int)
        and isinstance(action, dict)
        and action.get("type") in ("expire", "transition")
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _invalid_lifecycle(why: str) -> AwsError:
    return invalid("LifecyclePolicyText", f"'Lifecycle policy validation failure: {why}'")
