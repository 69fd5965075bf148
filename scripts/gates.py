"""Bounds on the shape of src/ and on its prose. Prints what breaks one and exits with 1.

A bound that would force a worse shape is lifted by name below, with the reason beside it.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "sagemaker_byoc"
SAME_NAME = 3  # a file has to be found by its name
SMALL = 40  # lines; with one importer it belongs into that module
FOLDER = 15  # modules; more is not taken in at a glance
VARIABLES = "contract/variables.py"

# Started by a name that no import shows.
ENTRIES = {"__main__.py", "sitecustomize.py", "pytest_plugin.py"}

_IDIOMS = "longer|more|less|different|better|worse|need|way|one|other"
PROSE = {
    r'(?<=""")Of': "name what it is of, or begin with a verb",
    rf"(?<!there )is no (?!(?:{_IDIOMS})\b)\w+": 'write "is not a …"',
    r"anew": 'write "again"',
    r"mend(?:s|ed|ing)?": 'write "fix"',
    r"whoever": "name who",
    r"(?:is|are|was|were) told": 'write "receives", "is given"',
    r"hears?": 'write "reads", "receives"',
    r"goes on": 'write "continues"',
    r"held against": 'write "compared with"',
    r"cures?": 'write "hint"',
    r"undertaker|inquest|offspring|farewell": "name the thing",
    r"(?:one|a) (?:process|rank|thread|line|file|row) (?:a|an) \w+": 'write "per"',
}
_PROSE = {re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE): hint for pattern, hint in PROSE.items()}
_VARIABLE = re.compile(r"\b_?BYOC_[A-Z][A-Z0-9_]*")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def modules() -> dict[str, Path]:
    """Dotted name to file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(known: dict[str, Path]) -> dict[str, set[str]]:
    """The modules of the package that each module imports, at its top or in a function."""
    found = {}
    for name, path in known.items():
        used: set[str] = set()
        for node in _executed(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                used |= (inner & known.keys()) or {node.module}
        found[name] = used & known.keys() - {name}
    return found


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below this one, without what stands below `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _executed(child)


def shape(known: dict[str, Path], uses: dict[str, set[str]]) -> Iterator[str]:
    names: dict[str, list[str]] = defaultdict(list)
    folders: dict[Path, int] = defaultdict(int)
    users = {name: [user for user, used in uses.items() if name in used] for name in known}
    for name, path in known.items():
        where = str(path.relative_to(PACKAGE))
        if path.name in {"__init__.py", *ENTRIES}:
            continue
        names[path.name].append(where)
        folders[path.parent] += 1
        lines = len(path.read_text().splitlines())
        if lines < SMALL and len(users[name]) == 1:
            yield f"{where}: {lines} lines and one importer ({users[name][0]}): merge it"
    for file, places in names.items():
        if len(places) > SAME_NAME:
            yield f"{file}: {len(places)} files have this name: {', '.join(places)}"
    for folder, count in folders.items():
        if count > FOLDER:
            yield f"{folder.relative_to(PACKAGE)}/: {count} modules, more than {FOLDER}"


def cycles(uses: dict[str, set[str]]) -> Iterator[str]:
    """Yield what remains once modules without imports or without importers are removed."""
    rest = dict(uses)
    while True:
        imported = set().union(*rest.values())
        ends = [
            name for name, used in rest.items() if not used & rest.keys() or name not in imported
        ]
        if not ends:
            break
        for name in ends:
            del rest[name]
    if rest:
        yield f"an import cycle among: {', '.join(sorted(rest))}"


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string and comment."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in kinds:
            yield token.start[0], token.string


def variables(known: dict[str, Path]) -> Iterator[str]:
    """Yield each text of the code, docstrings apart, that has the name of a variable in it."""
    for path in known.values():
        where = str(path.relative_to(PACKAGE))
        if where == VARIABLES:
            continue
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in docs:
                found = _VARIABLE.search(node.value) if isinstance(node.value, str) else None
                if found:
                    yield f"{where}:{node.lineno}: {found[0]} belongs in {VARIABLES}"


def prose() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in texts(path):
            yield from habits(path, line, _CODE.sub("", text))
    tracked = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in tracked:
        yield from habits(ROOT / name, 1, _CODE.sub(_blank, (ROOT / name).read_text()))


def habits(path: Path, start: int, text: str) -> Iterator[str]:
    for pattern, hint in _PROSE.items():
        for match in pattern.finditer(text):
            line = start + text.count("\n", 0, match.start())
            found = " ".join(match.group().split())
            yield f'{path.relative_to(ROOT)}:{line}: "{found}": {hint}'


def _blank(match: re.Match[str]) -> str:
    return "\n" * match.group().count("\n")


def main() -> int:
    known = modules()
    uses = imports(known)
    found = [*shape(known, uses), *cycles(uses), *variables(known), *prose()]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
