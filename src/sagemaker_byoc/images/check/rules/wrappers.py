"""Programs that run another program: shells, inits, `env`, `nice` and the like.

What can't be known from the words alone has no answer: the rules then say nothing.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import dataclass

Words = tuple[str, ...]

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh"})
_PYTHON = re.compile(r"^(python|pypy)[\d.]*$")
_ARGUMENTS = re.compile(r"\$\{?[@*0-9]")
_NAME = re.compile(r"\$(0|\{0)")
_PLAIN = re.compile(r"^[\w./+:=,%-]+(\s+[\w./+:=,%-]+)*$")
"""A command line without quoting, variables or operators."""
_BUILTINS = frozenset(
    re.findall(
        r"\S+",
        ". : [ alias break builtin cd command continue declare do echo eval exit export false for "
        "function if local printf pwd read return set shift source test time trap true type ulimit "
        "umask unset until wait while",
    )
)
_LONG_SHELL_OPTIONS = frozenset({"--login", "--noprofile", "--norc", "--posix", "--restricted"})
_VALUE_OPTIONS = "oO"
_PYTHON_FLAGS = re.compile(r"^-[bBdEIOqsSuvxP]+$")
_SETS_PATH = re.compile(r"PATH|(^|[\s;&])(\.|source|eval)\s|\bset\s+--|\bshift\b|\b(case|if|for)\b")
_EXEC_ARGUMENTS = re.compile(r"^\s*exec\s+(\"\$@\"|\$@|\"\$\{@\}\")\s*$")


@dataclass(frozen=True, slots=True)
class Inner:
    """The command that a wrapper runs; `at` is the place of its first word in the wrapper's."""

    words: Words
    at: int
    path_known: bool = True
    """False if the wrapper may search other folders than the image's PATH."""
    script: bool = False
    """Whether the first word is a file that an interpreter reads, which needs no x bit."""


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """`sh -c line`, with the place of the line among the words."""

    line: str
    at: int
    starts_clean: bool
    """False for a login or interactive shell, which reads files that may set PATH."""
    has_name: bool
    """Whether a word follows the line: it is $0, and without it the first argument would be."""

    @property
    def uses_arguments(self) -> bool:
        used = _ARGUMENTS.search(self.line) is not None
        return used and (self.has_name or _NAME.search(self.line) is not None)


@dataclass(frozen=True, slots=True)
class _Options:
    flags: frozenset[str]
    valued: frozenset[str]
    positional: int = 0
    """Its own words between its options and the command."""


def _options(flags: str = "", valued: str = "", positional: int = 0) -> _Options:
    return _Options(frozenset(flags.split()), frozenset(valued.split()), positional)


_TINI = _options("-s -g -v -vv -vvv -w", "-p -e")
_WRAPPERS = {
    "tini": _TINI,
    "tini-static": _TINI,
    "docker-init": _TINI,
    "dumb-init": _options("-v --verbose -c --single-child", "-r --rewrite"),
    "catatonit": _options("-g -L"),
    "nice": _options("", "-n --adjustment"),
    "ionice": _options("-t --ignore", "-c --class -n --classdata"),
    "nohup": _options(),
    "setsid": _options("-c --ctty -f --fork -w --wait"),
    "stdbuf": _options("", "-i --input -o --output -e --error"),
    "taskset": _options("-a --all-tasks -c --cpu-list", "", 1),
    "timeout": _options("--foreground --preserve-status -v --verbose", "-k -s --signal", 1),
    "gosu": _options("", "", 1),
    "su-exec": _options("", "", 1),
}


def is_shell(word: str) -> bool:
    return posixpath.basename(word) in _SHELLS


def inner(words: Words) -> Inner | None:
    """Return what the program `words[0]` runs; None if nothing, or if it is unknown."""
    name = posixpath.basename(words[0])
    if name in _SHELLS:
        return _shell(words)
    if _PYTHON.match(name):
        return _python(words)
    if name == "env":
        return _env(words)
    options = _WRAPPERS.get(name)
    at = None if options is None else _command(words, options)
    return None if at is None else Inner(words[at:], at)


def passes_arguments(text: str) -> bool:
    """Tell whether a shell script does nothing with its arguments but `exec "$@"` at its end."""
    lines = [line for line in text.splitlines()[1:] if not re.match(r"\s*(#|$)", line)]
    if not lines or not _EXEC_ARGUMENTS.match(lines[-1]):
        return False
    return not any(_SETS_PATH.search(line) or "exec" in line for line in lines[:-1])


def shell_command(words: Words) -> ShellCommand | None:
    """Return the command line that `words` give a shell with -c."""
    if not words or not is_shell(words[0]):
        return None
    at, command, clean = 1, False, True
    while at < len(words) and words[at][:1] in {"-", "+"} and len(words[at]) > 1:
        word = words[at]
        at += 1
        if word.startswith("--"):
            if word not in _LONG_SHELL_OPTIONS:
                return None
            clean = clean and word != "--login"
            continue
        at += sum(letter in _VALUE_OPTIONS for letter in word)
        command = command or "c" in word
        clean = clean and not {"l", "i"} & {*word}
    if not command or at >= len(words):
        return None
    return ShellCommand(words[at], at, clean, at + 1 < len(words))


def _shell(words: Words) -> Inner | None:
    command = shell_command(words)
    if command is None:
        plain = len(words) > 1 and words[1][:1] not in {"-", "+"}
        return Inner(words[1:], 1, script=True) if plain else None
    line = command.line.strip()
    if not _PLAIN.match(line):
        return None
    found = shlex.split(line)
    if found[0] == "exec":
        found = found[1:]
    if not found or found[0] in _BUILTINS or "=" in found[0]:
        return None
    return Inner(tuple(found), command.at, path_known=command.starts_clean)


def _python(words: Words) -> Inner | None:
    for at, word in enumerate(words[1:], 1):
        if not word.startswith("-"):
            return Inner(words[at:], at, script=True)
        if not _PYTHON_FLAGS.match(word):
            return None
    return None


def _env(words: Words) -> Inner | None:
    known, at = True, 1
    while at < len(words):
        word = words[at]
        if word in {"-i", "-", "--ignore-environment"}:
            known = False
        elif word in {"-u", "--unset"}:
            at += 1
        elif word == "--":
            pass
        elif word.startswith("-"):
            return None
        elif "=" in word:
            known = known and not word.startswith("PATH=")
        else:
            return Inner(words[at:], at, path_known=known)
        at += 1
    return None


def _command(words: Words, options: _Options) -> int | None:
    """Return the place of the command after the wrapper's own options."""
    at = 1
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        at += 1
        if word == "--":
            break
        name = word.partition("=")[0]
        if word in options.valued:
            at += 1
        elif not (
            word in options.flags
            or name in options.valued
            or (word[:2] in options.valued and not word.startswith("--"))
        ):
            return None
    at += options.positional
    return at if at < len(words) else None
