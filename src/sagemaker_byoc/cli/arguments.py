"""A parser whose refusals are one line and a cure, and the types of what follows a flag."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sagemaker_byoc.cli import console, failures

_CURES: tuple[tuple[str, str], ...] = (
    (r"expected .*argument", "Give it a value: {usage}"),
    (r"invalid int value", "Give a whole number: {usage}"),
    (r"invalid float value", "Give a number: {usage}"),
    (r"not allowed with argument", "Give only one of the two"),
    (r"are required|is required", "`{prog} --help` says what they are"),
    (r"ignored explicit argument", "It takes no value: leave out what follows ="),
)
CURE = "; "
"""What follows it in an ArgumentTypeError is the cure."""


class Parser(argparse.ArgumentParser):
    """No abbreviated flags: a script would break on the day a second flag begins alike."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def parse_known_args(  # type: ignore[override] # typeshed has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refused here and not by the root: this one knows which flags there are."""
        found, rest = super().parse_known_args(args, namespace)
        for action in actions(self):
            # Before 3.12 argparse gives up on `[PROGRAM]` at the first flag before it.
            is_left = action.nargs == "?" and not action.option_strings
            if is_left and rest and rest[0][:1] != "-" and getattr(found, action.dest) is None:
                setattr(found, action.dest, (action.type or str)(rest.pop(0)))  # type: ignore[operator] # typeshed: or a registered name
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        what, cure = self._explain(message)
        console.error(f"{self.prog}: {what}", cure, "USAGE")
        raise SystemExit(failures.USAGE)

    def _explain(self, message: str) -> tuple[str, str]:
        what, semicolon, cure = message.rpartition(CURE)
        if semicolon:
            return what, cure[:1].upper() + cure[1:]
        if choice := re.search(r"invalid choice: (.*?) \(choose from (.*)\)", message):
            return message[: choice.end(1)], self._nearest(choice[1], choice[2])
        if unknown := re.search(r"unrecognized arguments: (.*)", message):
            word = unknown[1].split(" ")[0].partition("=")[0]
            return message, self._nearest(word, ", ".join(self._flags()))
        for pattern, text in _CURES:
            if re.search(pattern, message):
                return message, text.format(prog=self.prog, usage=self._usage_of(message))
        return message, f"`{self.prog} --help` shows what it takes"

    def _flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]

    def _nearest(self, word: str, choices: str) -> str:
        names = [name.strip("'\" ") for name in choices.split(",")]
        near = difflib.get_close_matches(word.strip("'\""), names, n=1)
        if near:
            return f"Did you mean {near[0]}? `{self.prog} --help` shows the rest"
        if len(names) <= 12:
            return f"Choose from {', '.join(names)}"
        return f"`{self.prog} --help` shows what it takes"

    def _usage_of(self, message: str) -> str:
        """`--port PORT` of "argument -p/--port: …"."""
        named = re.match(r"argument ([^:]+): ", message)
        if not named:
            return f"`{self.prog} --help`"
        for action in self._actions:
            if named[1] in {"/".join(action.option_strings), action.metavar, action.dest}:
                flag = action.option_strings[-1] if action.option_strings else ""
                return f"{flag} {_value_of(action)}".strip()
        return named[1]


def _value_of(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    metavar = action.metavar if isinstance(action.metavar, str) else None
    return metavar or action.dest.upper()


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a parser takes, in order; argparse has no public way to it."""
    return parser._actions  # noqa: SLF001


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Its commands, by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in actions(parser):
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found |= action.choices
    return found


def seconds(most: float) -> Callable[[str], float]:
    """More than 0 and not over `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no time{CURE}give seconds, more than 0 and at most {most:.0f}"
            )
        return value

    return parse


def port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a TCP port{CURE}use 0 to 65535")
    return int(text)


def pair(text: str) -> str:
    """KEY=VALUE, kept as one word: `options.parse_pairs` takes it apart."""
    key, equals, _ = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE{CURE}write KEY=VALUE")
    return text
