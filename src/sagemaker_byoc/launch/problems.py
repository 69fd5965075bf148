"""The errors of a launch, and all that is wrong with its settings, reported in one run.

LaunchError             a call of the plan failed
├── UnfinishedError     a call failed after others had been made
└── FailedError         the job or the endpoint itself failed
SettingsError           the settings cannot be used as they are               exit code 2
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sagemaker_byoc.contract.errors import ByocError, RequestError


class SettingsError(RequestError):
    """An unknown key, a value of another type, a folder that does not exist."""


class LaunchError(ByocError):
    """A call of the plan failed."""


class UnfinishedError(LaunchError):
    """What was created stays; the message names it, and how to delete it."""


class FailedError(LaunchError):
    """A job that is Failed, an endpoint that is not InService."""


@dataclass(slots=True)
class Problems:
    """The first error of each setting, and warnings."""

    errors: dict[str, SettingsError] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, place: str, error: SettingsError) -> None:
        """`place` names the file, the table and the key."""
        self.errors.setdefault(place, error)

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def check(self, where: str) -> None:
        """Raise SettingsError with all errors, if there are any; `where` is the table."""
        found = [*self.errors.values()]
        if len(found) == 1:
            raise found[0]
        if found:
            lines = [
                f"\n  {error.what.removeprefix(f'{where}: ')}\n      {error.hint}"
                for error in found
            ]
            raise SettingsError(
                f"{where}: {len(found)} settings are missing or wrong:{''.join(lines)}",
                hint="Correct all of them in the file, or with --set KEY=VALUE",
            )
