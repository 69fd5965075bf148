"""Whether a job asked to be watched, and what makes its Python processes load the watch.

The library is never imported here: the program gets a variable, and a folder on its path whose
sitecustomize waits for torch. docs/how-to/watch-a-training.md is the user's page.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.contract.debugger import hook_file
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.supervisor.settings import WATCH, Settings

SITE = Path(__file__).parents[1] / "site"


def watch_variables(tree: Tree, settings: Settings, python_path: str) -> Mapping[str, str]:
    """For the program's environment; none where the job wants no watch."""
    text = settings.text(WATCH)
    if text is None and not hook_file(tree, settings.environ).is_file():
        return {}
    if text is not None and not settings.flag(WATCH):
        return {}
    return {
        WATCH: text or "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SITE), python_path))),
    }
