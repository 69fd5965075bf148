"""Files of lines: read in pieces, with a bound on a line, and an account of what was no use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from sagemaker_byoc.contract.hosting.capture import hour_of
from sagemaker_byoc.monitor.errors import DataError

READ_BYTES = 1 << 20
LONGEST_LINE = 80 << 20
"""Bytes. A payload of 25 MB in and out, as base64, fits."""
_LONGEST_REASON = 200
"""Characters: some reasons quote what was read."""
MOST_UNREAD = 0.5
"""Share of lines, or of rows to be judged."""

Opener = Callable[[str], BinaryIO]


@dataclass(slots=True)
class Unread:
    """Lines that could not be used, counted by reason, with the first place of each."""

    lines: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    elsewhere: int = 0
    """How many of `reasons` are of other files than those of the data."""
    outside: int = 0
    """Lines of another time than the window's."""
    notices: Counter[str] = field(default_factory=Counter)
    """What was read otherwise than it stands there, counted by what was done."""

    def add(self, reason: str, place: str, detail: str = "") -> None:
        """`detail` differs from line to line: that of the first line of a reason is kept."""
        reason = reason[:_LONGEST_REASON]
        if len(self.reasons) >= 100 and reason not in self.reasons:
            reason = "other reasons"
        self.reasons[reason] += 1
        where = f"{place}: {detail[:_LONGEST_REASON]}" if detail else place
        self.first.setdefault(reason, where)

    def join(self, other: Unread) -> None:
        """Take over the reasons and notices of other files, such as those of labels."""
        self.lines += other.lines
        self.elsewhere += other.count
        self.reasons.update(other.reasons)
        self.notices.update(other.notices)
        self.first = {**other.first, **self.first}

    def notice(self, what: str, count: int = 1) -> None:
        if len(self.notices) < 100 or what in self.notices:
            self.notices[what] += count

    @property
    def count(self) -> int:
        return self.reasons.total()

    def refuse_most(self, good: int, what: str, hint: str) -> None:
        """Raise DataError if more than half of all could not be used: what is left would be taken
        for the whole."""
        bad = self.count - self.elsewhere
        if bad and bad > MOST_UNREAD * (bad + good):
            reason, times = self.reasons.most_common(1)[0]
            raise DataError(
                f"{bad:,} of {bad + good:,} {what}, {times:,} of them: {reason} "
                f"(first: {self.first[reason]})",
                hint=hint,
            )


@dataclass(frozen=True, slots=True)
class Window:
    """`start` to `end`, by the time of the inference; files of other hours are not opened."""

    start: datetime
    end: datetime

    def has_file(self, name: str) -> bool:
        hour = hour_of(name)
        return hour is None or (hour + timedelta(hours=1) > self.start and hour < self.end)

    def has(self, time: object) -> bool:
        """A record whose time can't be read counts as inside."""
        try:
            moment = datetime.fromisoformat(str(time))
        except ValueError:
            return True
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return self.start <= moment < self.end


def lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Without their ends; None for one that is longer than any record, of which no more is kept."""
    rest, is_too_long = b"", False
    while chunk := stream.read(READ_BYTES):
        pieces = (rest + chunk).split(b"\n")
        rest = pieces.pop()
        if pieces and is_too_long:
            pieces, is_too_long = pieces[1:], False
        yield from pieces
        if len(rest) > LONGEST_LINE:
            if not is_too_long:
                yield None
            rest, is_too_long = b"", True
    if rest and not is_too_long:
        yield rest


def records(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield JSON objects with the numbers of their first lines: one per line, or printed over
    several as `json.dumps(…, indent=2)` does, alone or in a list. None as in `lines`.

    Such an object ends with a brace that is indented as its first one; what does not end within
    LONGEST_LINE bytes comes as it is.
    """
    parts: list[bytes] = []
    start = size = 0
    for number, line in enumerate(lines(stream), start=1):
        text = line.strip() if line is not None else b""
        if not parts and text == b"{":
            parts, start, size = [line or b""], number, 1
        elif not parts:
            if text not in (b"[", b"]"):
                yield number, line
        elif line is None or size > LONGEST_LINE:
            yield start, b" ".join(parts)
            parts = []
        else:
            parts.append(line)
            size += len(line)
            if text in (b"}", b"},") and _indent(line) == _indent(parts[0]):
                yield start, b" ".join(parts).rstrip().removesuffix(b",")
                parts = []
    if parts:
        yield start, b" ".join(parts)


def _indent(line: bytes) -> int:
    return len(line) - len(line.lstrip())
