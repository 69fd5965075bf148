"""Whether a job asked to be watched.

The supervisor never imports the library: `training/site` loads it into the program if the
variable is set. docs/how-to/watch-a-training.md is the user's page.
"""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_byoc.contract.debugger import hook_file
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.supervisor.settings import WATCH, Settings


def watch_variables(tree: Tree, settings: Settings) -> Mapping[str, str]:
    """Return the variable that `training/site` reads; empty if the job switches the watch off."""
    text = settings.text(WATCH)
    if text is None and not hook_file(tree, settings.environ).is_file():
        return {}
    if text is not None and not settings.flag(WATCH):
        return {WATCH: ""}
    return {WATCH: text or "1"}
