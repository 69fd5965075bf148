"""Refuse a Python that is too old before pip resolves anything.

pip 23.0, which Debian 12 has, tries each release of each dependency of an extra before it reports
that requires-python is not met: more than ten minutes without an error.
"""

import platform
import re
import sys
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class OldestPython(MetadataHookInterface):
    """Raise SystemExit where the metadata is prepared, which is the first thing that pip does."""

    def update(self, metadata: dict[str, Any]) -> None:
        oldest = metadata["requires-python"].removeprefix(">=")
        if sys.version_info[:3] < tuple(map(int, re.findall(r"\d+", oldest))):
            raise SystemExit(
                f"sagemaker-byoc needs Python {oldest} or newer, and this is "
                f"{platform.python_version()} ({sys.executable}).\n"
                "  fix: make the environment with a newer one: `uv python install 3.11` brings it"
            )
