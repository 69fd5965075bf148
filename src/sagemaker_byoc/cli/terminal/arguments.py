"""A parser whose refusals are one line and a hint, and the types of flags' values."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sagemaker_byoc.cli.terminal import console, failures

_HINTS: tuple[tuple[str, str], ...] = (
    (r"expected .*argument", "Give it a value: {usage}"),
    (r"invalid int value", "Give a whole number: {usage}"),
    (r"invalid float value", "Give a number: {usage}"),
    (r"not allowed with argument", "Give only one of the two"),
    (r"are required|is required", "Write: {line}; `{prog} --help` says what they are"),
    (r"ignored explicit argument", "It takes no value: leave out what follows ="),
)
_HP = "--hp"
QUIET, VERBOSE = ("-q", "--quiet"), ("-v", "--verbose")
HINT = "; "
"""What follows it in an ArgumentTypeError is the hint."""
USAGE = "{usage}"
"""Placeholder in a hint for the flag with the name of its value."""


class Parser(argparse.ArgumentParser):
    """No flag may be abbreviated: a script would break once a second flag begins alike."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def parse_known_args(  # type: ignore[override] # typeshed has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse unknown flags here instead of in the root parser: this one knows its flags."""
        words = sys.argv[1:] if args is None else [*args]
        if _HP in self._option_string_actions:
            words = hyperparameters_last(words)
        found, rest = super().parse_known_args(words, namespace)
        for action in actions(self):
            # Before 3.12 argparse gives up on `[PROGRAM]` at the first flag before it.
            is_left = action.nargs == "?" and not action.option_strings
            if is_left and rest and rest[0][:1] != "-" and getattr(found, action.dest) is None:
                setattr(found, action.dest, (action.type or str)(rest.pop(0)))  # type: ignore[operator] # typeshed: or a registered name
        if rest:
            self._refuse(rest, words)
        return found, rest

    def _refuse(self, rest: Sequence[str], words: Sequence[str]) -> NoReturn:
        message = f"unrecognized arguments: {shlex.join(rest)}"
        if _HP in self._option_string_actions and not self._resembles(rest[0]):
            kept, pairs = self._split(words)
            if pairs:
                what = f"{len(pairs)} hyperparameters" if len(pairs) > 1 else "a hyperparameter"
                line = shlex.join([*self.prog.split(), *kept, _HP, *pairs])
                self._fail(message, f"To pass {what} to the program: {line}")
        self.error(message)

    def _resembles(self, word: str) -> bool:
        """Return whether a flag of ours was probably meant."""
        flags = [flag.lstrip("-") for flag in self._flags() if flag.startswith("--")]
        name = word.lstrip("-").partition("=")[0]
        return bool(difflib.get_close_matches(name, flags, n=1, cutoff=0.75))

    def _split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return what is ours, and KEY=VALUE for each flag that is not."""
        kept: list[str] = []
        pairs: list[str] = []
        left = deque(words)
        while left:
            word = left.popleft()
            if word == _HP:
                while left and not left[0].startswith("-"):
                    pairs.append(left.popleft())
            elif (action := self._option_string_actions.get(word)) is not None:
                kept.append(word)
                if action.nargs != 0 and left:
                    kept.append(left.popleft())
            elif not word.startswith("--") or word.partition("=")[0] in self._option_string_actions:
                kept.append(word)
            else:
                pairs.append(_pair_of(word, left))
        return kept, pairs

    def error(self, message: str) -> NoReturn:
        self._fail(*self._explain(message))

    def _fail(self, what: str, hint: str) -> NoReturn:
        console.error(f"{self.prog}: {what}", hint, "USAGE")
        raise SystemExit(failures.USAGE)

    def _explain(self, message: str) -> tuple[str, str]:
        if choice := re.search(r"invalid choice: (.*?) \(choose from (.*)\)", message):
            return message[: choice.end(1)], self._nearest(choice[1], choice[2])
        if unknown := re.search(r"unrecognized arguments: (.*)", message):
            word = unknown[1].split(" ")[0].partition("=")[0]
            return message, self._nearest(word, ", ".join(self._flags()))
        what, semicolon, hint = message.rpartition(HINT)
        if semicolon:
            hint = hint.replace(USAGE, self._usage_of(message))
            return what, hint[:1].upper() + hint[1:]
        for pattern, text in _HINTS:
            if re.search(pattern, message):
                usage = self._usage_of(message)
                return message, text.format(prog=self.prog, usage=usage, line=self._line())
        return message, f"`{self.prog} --help` shows what it takes"

    def _line(self) -> str:
        """Return the shortest complete command line."""
        words = [self.prog]
        for action in self._actions:
            if action.required:
                named = isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
                value = str(action.metavar) if named else _value_of(action)
                words += [*action.option_strings[-1:], value]
        return " ".join(words)

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
        """Return `--port PORT` for "argument -p/--port: …"."""
        named = re.match(r"argument ([^:]+): ", message)
        if not named:
            return f"`{self.prog} --help`"
        for action in self._actions:
            if named[1] in {"/".join(action.option_strings), action.metavar, action.dest}:
                flag = action.option_strings[-1] if action.option_strings else ""
                return f"{flag} {_value_of(action)}".strip()
        return named[1]


def hyperparameters_last(words: Sequence[str]) -> list[str]:
    """Return `words` with the hyperparameters last, so that they take no other word as theirs.

    What follows `--` are options of the user's program: `-- --lr 0.1` is `--hp lr=0.1`.
    """
    end = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    pairs: list[str] = []
    left = deque(words[:end])
    while left:
        word = left.popleft()
        if word != _HP:
            kept.append(word)
            continue
        first = len(pairs)
        while left and not left[0].startswith("-") and (first == len(pairs) or "=" in left[0]):
            pairs.append(left.popleft())
        if first == len(pairs):
            return [*kept, _HP, *left]  # without a value: argparse says so
    own = deque(words[end + 1 :])
    while own:
        pairs.append(_pair_of(own.popleft(), own))
    return [*kept, _HP, *pairs] if pairs else kept


def _pair_of(word: str, left: deque[str]) -> str:
    """Return KEY=VALUE of an option of the user's program; its value may be the next of `left`."""
    key, equals, value = word.lstrip("-").partition("=")
    if not equals:
        is_value = left and (not left[0].startswith("-") or _is_number(left[0]))
        value = left.popleft() if is_value else "True"
    return f"{key}={value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _value_of(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    metavar = action.metavar if isinstance(action.metavar, str) else None
    return metavar or action.dest.upper()


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add -q and -v, which may stand before or after the name of any command below `parser`."""
    for at in (parser, *below(parser).values()):
        at.add_argument(
            *QUIET,
            action="store_true",
            default=argparse.SUPPRESS,
            help="print only results and errors",
        )
        at.add_argument(
            *VERBOSE,
            action="store_true",
            default=argparse.SUPPRESS,
            help="also print what is asked of Docker and AWS, and the traceback of a defect",
        )
        for inner in below(at).values() if at is not parser else ():
            add_verbosity(inner)


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return a parser's actions in order, which argparse does not expose."""
    return parser._actions  # noqa: SLF001


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of its commands, by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in actions(parser):
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found |= action.choices
    return found


def seconds(most: float) -> Callable[[str], float]:
    """Return the type of a number of seconds above 0 and at most `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a time{HINT}give seconds, more than 0 and at most {most:.0f}"
            )
        return value

    return parse


def port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a TCP port{HINT}use 0 to 65535")
    return int(text)


def pair(text: str) -> str:
    """Check KEY=VALUE and keep it as one word; `programs.parse_pairs` splits it."""
    key, equals, _ = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE{HINT}write {USAGE}")
    return text
