"""Write docs/reference/contract.md from the contract room; --check only says if it is stale."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

import sagemaker_byoc.contract
from sagemaker_byoc.contract.facts import Fact
from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.contract.paths import Tree

PAGE = Path(__file__).parent / "reference" / "contract.md"
HEAD = """# The contract, as data

Generated from `src/sagemaker_byoc/contract/` by `scripts/docs`; CI fails when it is stale.
"Service model" is AWS's published API description, and a test compares those values with
botocore's copy of it. Pages of the developer guide are named by their file.
"""


def facts() -> list[tuple[str, str, Fact[object]]]:
    """Module, name and fact of everything that the room states."""
    found = []
    for module in sorted(
        name for _, name, _ in pkgutil.iter_modules(sagemaker_byoc.contract.__path__)
    ):
        for name, value in vars(
            importlib.import_module(f"sagemaker_byoc.contract.{module}")
        ).items():
            if isinstance(value, Fact):
                found.append((module, name, value))
    return found


def cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def fact_tables() -> list[str]:
    lines: list[str] = []
    section = ""
    for module, name, fact in facts():
        if module != section:
            section = module
            title = importlib.import_module(f"sagemaker_byoc.contract.{module}").__doc__ or module
            lines += ["", f"## {module}", "", title.split("\n\n")[0].replace("\n", " ").strip(), ""]
            lines += [
                "| name | value | unit | source | checked | note |",
                "|---|---|---|---|---|---|",
            ]
        cells = (f"`{name}`", f"`{fact.value}`", fact.unit, fact.source, fact.checked, fact.note)
        lines.append("| " + " | ".join(cell(value) for value in cells) + " |")
    return lines


def path_table() -> list[str]:
    lines = ["", "## paths", "", "`SAGEMAKER_BASE_DIR` moves the whole tree.", ""]
    lines += ["| `Tree` | path |", "|---|---|"]
    tree = Tree()
    for name, attribute in vars(Tree).items():
        if isinstance(attribute, property) and isinstance(path := getattr(tree, name), Path):
            lines.append(f"| `{name}` | `{path}` |")
    lines.append(f"| `channel(name)` | `{tree.channel('NAME')}` |")
    lines.append(f"| `pipe(name, epoch)` | `{tree.pipe('NAME', 0)}` |")
    return lines


def exit_code_table() -> list[str]:
    lines = ["", "## exit codes of `train` and `serve`", ""]
    lines += ["A training program's own exit code is kept; `128+n` where signal n ended it.", ""]
    lines += ["| code | name |", "|---|---|"]
    return lines + [f"| {code.value} | `{code.name}` |" for code in ExitCode]


def page() -> str:
    return "\n".join([HEAD.rstrip(), *path_table(), *exit_code_table(), *fact_tables()]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        sys.stderr.write(f"{PAGE.name} is stale: run scripts/docs\n")
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
