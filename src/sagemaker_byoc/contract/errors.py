"""The errors of the contract.

ContractError            something that SageMaker or the user supplied breaks the contract
├── DocumentError        a JSON file under /opt/ml/input/config
└── ArchiveError         a model archive that must not be unpacked
"""

from __future__ import annotations


class ContractError(Exception):
    """Names where, what is wrong there and the cure; never needs a traceback to be understood."""

    def __init__(self, *, where: str, what: str, cure: str) -> None:
        self.where = where
        self.what = what
        self.cure = cure
        super().__init__(f"{where}: {what}. {cure}")


class DocumentError(ContractError):
    """A configuration file that does not hold what its place promises."""


class ArchiveError(ContractError):
    """An archive that is damaged, too large, or that climbs out of its folder."""
