"""A fact: one value of the contract, with the place it comes from and the day it was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

API_MODEL = "service model"
"""Prefix of a source inside AWS's published service model; a test compares these with botocore."""

GUIDE = "SageMaker developer guide"


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """`value` in `unit`, as `source` states it, read on `checked` (ISO date)."""

    value: T
    unit: str
    source: str
    checked: str
    note: str = ""
