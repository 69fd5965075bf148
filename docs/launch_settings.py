"""The page of all keys that `byoc launch` reads."""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_byoc.launch import endpoint, train
from sagemaker_byoc.launch.kubernetes.pods import POD_KEYS, TRAIN_KEYS

HEAD = """# The settings of `byoc launch`

Generated from `src/sagemaker_byoc/launch/` by `scripts/docs`; CI fails when it is stale.

They stand in `pyproject.toml`, or in any TOML file that `--config` names; `--set KEY=VALUE` wins.
Paths are relative to that file. `name` may stand in `[tool.byoc]`, for both. A time is a number of
seconds, or text such as `"2h30m"`. How they are used: [launch](../how-to/launch.md),
[Kubernetes](../how-to/kubernetes.md).
"""
TABLES: Mapping[str, Mapping[str, str]] = {
    "tool.byoc.train": train.KEYS,
    "tool.byoc.endpoint": endpoint.KEYS,
    "tool.byoc.train.kubernetes": TRAIN_KEYS,
    "tool.byoc.endpoint.kubernetes": POD_KEYS,
}


def page() -> str:
    lines = [HEAD.rstrip()]
    for name, keys in TABLES.items():
        lines += ["", f"## `[{name}]`", "", "| key | meaning |", "|---|---|"]
        lines += [
            f"| `{key}` | {meaning.replace('|', chr(92) + '|')} |" for key, meaning in keys.items()
        ]
    return "\n".join(lines) + "\n"
