"""docs/reference/commands.md: every command and flag, every error id, from the parser itself."""

from __future__ import annotations

import importlib
import pkgutil
from argparse import Action
from argparse import ArgumentParser as Parser
from collections.abc import Iterator

from sagemaker_byoc.cli.main import parser
from sagemaker_byoc.cli.terminal import failures
from sagemaker_byoc.cli.terminal.arguments import actions, below
from sagemaker_byoc.contract.errors import ByocError

HEAD = """# Commands

Generated from the parser by `scripts/docs`; CI fails when it is stale.

Results go to stdout and nothing else does; progress, logs and errors go to stderr. `--json` prints
one object with the number of its `schema` (`logs` and `events`: one object per line; `runs`: a
list; `local env`: names and values; a report of `check` has its own number). Colour is for
terminals: `NO_COLOR` turns it off, `FORCE_COLOR` on. What `[tool.byoc]` of
`./pyproject.toml` says need not be said again ([how](../how-to/start-a-project.md)).

Each command takes `-q` (`--quiet`: only results and errors) and `-v` (`--verbose`: also what is
asked of Docker and AWS), before or after its name. After a defect of `byoc` itself the traceback is
in a file that `error[INTERNAL]` names; `-v` shows it.

An error is `error[ID]:` with what and where, then `fix:` with what to do. The ids are stable, the
words are not.
"""
ROOMS = ("cli", "cloud", "host", "images", "launch", "monitor", "standalone")


def page() -> str:
    lines = [HEAD.rstrip(), "", "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in failures.EXIT_CODES.items()]
    lines += ["", "## Error ids", "", "| id | exit code |", "|---|---|"]
    lines += [f"| `{name}` | {code} |" for name, code in sorted(error_ids().items())]
    for words, leaf in leaves(parser(), "byoc"):
        lines += ["", f"## {words}", "", (leaf.description or "").replace("|", "\\|")]
        rows = [*arguments(leaf)]
        if rows:
            lines += ["", "| argument | |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def error_ids() -> dict[str, int]:
    """Return the id and the exit code of every error that a command can end with."""
    for room in ROOMS:
        package = importlib.import_module(f"sagemaker_byoc.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found = {"USAGE": failures.USAGE, "FILE": failures.USAGE, "INTERNAL": failures.FAILED}
    return found | {failures.id_of(kind): kind.exit_code for kind in subclasses(ByocError)}


def subclasses(kind: type) -> Iterator[type]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def leaves(at: Parser, words: str) -> Iterator[tuple[str, Parser]]:
    commands = below(at)
    if not commands:
        yield words, at
    for name, sub in commands.items():
        yield from leaves(sub, f"{words} {name}")


def arguments(leaf: Parser) -> Iterator[str]:
    for action in actions(leaf):
        if action.dest not in {"help", "quiet", "verbose"}:
            words = (action.help or "") % {**vars(action), "prog": leaf.prog}
            shown = f"`{named(action)}`".replace("|", "\\|")
            yield f"| {shown}{', needed' if is_needed(action) else ''} | {escaped(words)} |"


def named(action: Action) -> str:
    value = ""
    if action.nargs != 0:
        value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        if action.choices is not None:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        if action.nargs in {"+", "*"}:
            value += " …"
        if action.nargs in {"?", "*"}:
            value = f"[{value}]"
    return " ".join(part for part in (", ".join(action.option_strings), value) if part)


def is_needed(action: Action) -> bool:
    return bool(action.option_strings) and action.required


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
