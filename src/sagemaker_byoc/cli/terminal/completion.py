"""`byoc completion`: a script that completes commands and flags in bash, zsh or fish."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.cli.terminal.arguments import actions, below

HELP = "Print a shell's completion script."
SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace) -> int:
    from sagemaker_byoc.cli.main import parser  # noqa: PLC0415 - which imports this

    console.result(script(arguments.shell, parser()))
    return 0


@dataclass(frozen=True, slots=True)
class Word:
    """What may stand in one place: a command, a flag, or one of an argument's choices."""

    text: str
    help: str = ""
    choices: tuple[str, ...] = ()
    takes_value: bool = False


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """For one of SHELLS. Where nothing is known, the shell completes files."""
    tree = dict(_walk(parser, ""))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](tree)


def _walk(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, list[Word]]]:
    """The words of `path` ("local up"), then those of the commands below it."""
    commands = below(parser)
    words = [Word(name, sub.description or "") for name, sub in commands.items()]
    for action in actions(parser):
        choices = tuple(map(str, action.choices or ()))
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        takes_value = action.nargs != 0
        words += [Word(flag, text, choices, takes_value) for flag in action.option_strings]
        if not action.option_strings and not commands:
            words += [Word(name) for name in choices]
    yield path, words
    for name, sub in commands.items():
        yield from _walk(sub, f"{path} {name}".strip())


Tree = Mapping[str, list[Word]]


def _bash(tree: Tree) -> str:
    commands = "\n".join(
        f"    {shlex.quote(path)}) words={shlex.quote(_texts(words))} ;;"
        for path, words in tree.items()
    )
    values = "\n".join(
        f"    {shlex.quote(f'{path} {word.text}'.strip())})"
        f" words={shlex.quote(' '.join(word.choices))} ;;"
        for path, words in tree.items()
        for word in words
        if word.choices and word.text.startswith("-")
    )
    files = " | ".join(
        shlex.quote(f"{path} {word.text}".strip())
        for path, words in tree.items()
        for word in words
        if word.takes_value and not word.choices
    )
    return f"""# bash completion of byoc: eval "$(byoc completion bash)"
_byoc() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  local path='' words='' word next
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    next="${{path:+$path }}$word"
    case "$next" in
      {_alternatives(tree)}) path="$next" ;;
    esac
  done
  COMPREPLY=()
  case "${{path:+$path }}$before" in
{values}
    {files}) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  [ -n "$words" ] || case "$path" in
{commands}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [ "${{#COMPREPLY[@]}}" -gt 0 ] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -o filenames -F _byoc byoc"""


def _zsh(tree: Tree) -> str:
    """zsh runs bash's completion as it is."""
    return "\n".join(
        (
            '# zsh completion of byoc: eval "$(byoc completion zsh)"',
            "autoload -U +X compinit && compinit -u",
            "autoload -U +X bashcompinit && bashcompinit",
            _bash(tree).partition("\n")[2],
        )
    )


def _fish(tree: Tree) -> str:
    lines = ["# fish completion of byoc: byoc completion fish | source"]
    for path, words in tree.items():
        parts = path.split()
        condition = " and ".join(f"__fish_seen_subcommand_from {part}" for part in parts)
        condition = condition.replace(" and ", "; and ")
        below = [other.split()[-1] for other in tree if other.split()[:-1] == parts and other]
        if below:
            unseen = f"not __fish_seen_subcommand_from {' '.join(below)}"
            condition = f"{condition}; and {unseen}" if condition else unseen
        for word in words:
            line = f"complete -c byoc -n {shlex.quote(condition)}"
            if word.text.startswith("--"):
                line += f" -l {word.text[2:]}"
            elif word.text.startswith("-"):
                line += f" -s {word.text[1:]}"
            else:
                line += f" -f -a {shlex.quote(word.text)}"
            if word.choices:
                line += f" -x -a {shlex.quote(' '.join(word.choices))}"
            elif word.takes_value:
                line += " -r"
            if word.help:
                line += f" -d {shlex.quote(word.help.partition(';')[0])}"
            lines.append(line)
    return "\n".join(lines)


def _texts(words: list[Word]) -> str:
    return " ".join(word.text for word in words)


def _alternatives(tree: Tree) -> str:
    return " | ".join(shlex.quote(path) for path in tree if path)
