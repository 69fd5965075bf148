"""The errors of every package: what is wrong, a hint, and the exit code of the command.

ByocError                what is wrong, and a hint
├── RequestError         the request cannot be fulfilled as it stands          exit code 2
├── MachineError         this machine lacks an engine, a program, disk space   exit code 3
├── TimeLimitError       a time limit was reached                              exit code 124
├── JobError             the training program failed                           exit code 1
└── ContractError        a file or a value breaks SageMaker's contract         exit code 2
    ├── DocumentError    a JSON file under /opt/ml/input/config
    └── ArchiveError     a model archive that must not be unpacked

A package derives its own from these. The id that `byoc --json` reports is the name of the class
(`MachineError`: MACHINE), so a class keeps its name.
"""

from __future__ import annotations

from collections.abc import Callable


class ByocError(Exception):
    """An error that a user understands without a traceback: `what` is wrong, and a `hint`."""

    exit_code = 1

    def __init__(self, what: str, *, hint: str) -> None:
        self.what = what
        self.hint = hint
        super().__init__(f"{what}. {hint}")

    @property
    def sentence(self) -> str:
        """What is wrong and where, without the hint."""
        return self.what

    def mask(self, without_secrets: Callable[[str], str]) -> None:
        """Remove secrets from every text of the error."""
        self.what, self.hint = without_secrets(self.what), without_secrets(self.hint)
        self.args = (f"{self.sentence}. {self.hint}",)


class RequestError(ByocError):
    """An option that contradicts another, or a file that does not exist."""

    exit_code = 2


class MachineError(ByocError):
    """No Docker engine, no credentials, a port in use, a full disk."""

    exit_code = 3


class TimeLimitError(ByocError):
    """An operation took longer than it was allowed to."""

    exit_code = 124


class JobError(ByocError):
    """A training program that ended with a nonzero exit code."""


class ContractError(ByocError):
    """`where` names the file or the setting that breaks the contract."""

    exit_code = 2

    def __init__(self, *, where: str, what: str, hint: str) -> None:
        self.where = where
        super().__init__(what, hint=hint)
        self.args = (f"{where}: {what}. {hint}",)

    @property
    def sentence(self) -> str:
        return f"{self.where}: {self.what}"


class DocumentError(ContractError):
    """A configuration file with a missing or a wrong value."""


class ArchiveError(ContractError):
    """An archive that is damaged, too large, or that climbs out of its folder."""
