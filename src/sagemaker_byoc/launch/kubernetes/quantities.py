"""Amounts of CPU and memory, as Kubernetes writes them.

Source: kubernetes, apimachinery/pkg/api/resource/quantity.go, and the documentation "Resource
Management for Pods and Containers".
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil

_QUANTITY = re.compile(
    r"(?P<number>\d+(\.\d*)?|\.\d+)(?P<unit>[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?"
)
_WRITTEN = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<letter>[kmgtpe])i?b?\s*", re.IGNORECASE)
"""What people write: 16GB, 16 gb, 16gib."""
_SMALL = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)}
_LARGE = "kMGTPE"
_LEAST_MEMORY = 6 * 2**20
"""Bytes: with less no container starts (Docker: the minimum of --memory)."""
_MOST_MEMORY = 2**50
"""Bytes; an API server cuts what is above 2**63 - 1 without a word (quantity.go)."""
_MOST_CPUS = 1024


def value_of(text: str) -> Fraction | None:
    """Return the amount; None if `text` is not a quantity above zero that an API server takes."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return None
    number, unit = Fraction(found["number"].rstrip(".")), found["unit"] or ""
    if unit[1:] == "i":
        return number * Fraction(1024) ** ("KMGTPE".index(unit[0]) + 1)
    if unit and unit in _LARGE:
        return number * Fraction(1000) ** (_LARGE.index(unit) + 1)
    if unit in _SMALL:
        return number * _SMALL[unit]
    return number * Fraction(10) ** int(unit[1:] or 0)


def memory_fault(text: str) -> str:
    """Return what to write instead, "" if `text` is an amount of memory."""
    amount = value_of(text)
    written = _WRITTEN.fullmatch(text)
    if amount is None and written is not None:
        number, letter = written["number"], written["letter"].upper()
        decimal = "k" if letter == "K" else letter
        return f'Write memory = "{number}{letter}i" (1024s) or "{number}{decimal}" (1000s)'
    if amount is None:
        return 'Write memory = "16Gi", a number and one of Ki, Mi, Gi, Ti, k, M, G, T'
    if amount < _LEAST_MEMORY:
        shown = "less than a byte" if amount < 1 else f"{int(amount)} bytes"
        return f'That is {shown}, too little to start a container: memory = "16Gi"'
    if amount > _MOST_MEMORY:
        return 'That is more than 1 Pi, which no node has: memory = "16Gi"'
    return ""


def cpu_fault(text: str) -> str:
    """Return what to write instead, "" if `text` is a number of CPUs."""
    amount = value_of(text)
    if amount is None or text[-1:] == "i":
        return 'Write cpus = "2", "1.5" or "500m", as Kubernetes counts them'
    thousandths = amount * 1000
    if thousandths < 1:
        return 'The least that Kubernetes shares out is "1m", a thousandth of a CPU'
    if thousandths.denominator != 1:
        return f'Kubernetes counts thousandths of a CPU: cpus = "{ceil(thousandths)}m"'
    if amount > _MOST_CPUS:
        return f'That is {int(amount)} CPUs, which no node has: cpus = "2"'
    return ""
