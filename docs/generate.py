"""Write the generated pages of docs/reference; --check only says which is stale."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from operator import itemgetter
from pathlib import Path

import commands
import launch_settings
import operations

import sagemaker_byoc.contract
import sagemaker_byoc.host
from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.facts import Fact
from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.images.check.check import RULES

_OURS = "sagemaker_byoc."
REFERENCE = Path(__file__).parent / "reference"
HEAD = """# The contract, as data

Generated from `src/sagemaker_byoc/contract/` by `scripts/docs`; CI fails when it is stale.
"Service model" is AWS's published API description, and a test compares those values with
botocore's copy of it. Pages of the developer guide are named by their file.
"""


def facts() -> list[tuple[str, str, Fact[object]]]:
    """Module, name and fact of everything that these packages state."""
    found = []
    for package in (sagemaker_byoc.contract, sagemaker_byoc.host):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, Fact):
                    found.append((module.name.removeprefix(_OURS), name, value))
    return sorted(found, key=itemgetter(0))


def cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def fact_tables() -> list[str]:
    lines: list[str] = []
    section = ""
    for module, name, fact in facts():
        if module != section:
            section = module
            title = importlib.import_module(_OURS + module).__doc__ or module
            lines += ["", f"## {module}", "", title.split("\n\n")[0].replace("\n", " ").strip(), ""]
            lines += [
                "| name | value | unit | source | checked | note |",
                "|---|---|---|---|---|---|",
            ]
        cells = (f"`{name}`", f"`{fact.value}`", fact.unit, fact.source, fact.checked, fact.note)
        lines.append("| " + " | ".join(cell(value) for value in cells) + " |")
    return lines


def variable_table() -> list[str]:
    lines = ["", "## variables", "", variables.__doc__.split("\n\n")[0], ""]
    lines += [f"Checked on {variables.CHECKED}.", ""]
    lines += ["| variable | read by | source | note |", "|---|---|---|---|"]
    for one in variables.every():
        cells = (f"`{one}`", one.reader, one.source, one.note)
        lines.append("| " + " | ".join(map(cell, cells)) + " |")
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
    return (
        "\n".join(
            [HEAD.rstrip(), *path_table(), *exit_code_table(), *variable_table(), *fact_tables()]
        )
        + "\n"
    )


FINDINGS_HEAD = """# What `byoc check` finds

Generated from `src/sagemaker_byoc/images/check/rules/` by `scripts/docs`; CI fails when it is
stale.

An **error** means that SageMaker refuses the image, that a job or an endpoint breaks, or that a
secret would be shipped; with one the exit code is 1. A **warning** alone leaves it at 0. To ignore
the findings of a rule, or a single one, name them in `pyproject.toml` with the reason:

```toml
[tool.byoc.check.ignore]
IMG003 = "only for Graviton hosting"
"SEC001:LICENSE_KEY" = "printed on every box"
"SEC003:/app/tests/*.pem" = "made for the tests"
```

The report prints this line for each finding (`to ignore it: …`). What follows the colon is the
finding's `subject` in the report of `--json`: the variable, the build argument, the file. `*`
stands for any text.

Secrets are searched for in variables, labels, the history, and the first 64 KiB of text files of
every layer (up to 20,000 files each; the report says how many there were above that), not in what
package managers install: `site-packages`, `node_modules`, `/usr/lib`, what `pip install --target`
put beside its `.dist-info`, and the like. In configurations and scripts a name such as `password`
counts with a value of letters and digits, outside of `/etc` and of folders of tests and examples.

How a container starts its program is judged as runc and the kernel do it, through links, `#!`
lines, loaders, and wrappers such as `tini`, `env` or a script that ends in `exec "$@"`. What can't
be known from the image is not reported. Neither are, on purpose:

- the host keys of OpenSSH and the snakeoil certificate, which the installation of a package makes;
- a shell's line that ends in `exec program` in an image for one role: no shell is left, and no
  argument is needed;
- code in `/opt/ml/code` if `SAGEMAKER_PROGRAM` is set, as AWS's guide has it;
- what a login shell (`bash -lc train`) finds, because `/etc/profile` sets its PATH.

`IMG`, `CUD` and `SEC` look at the image as it is stored. `TRN` and `SRV` come from containers that
are started, used and stopped in the engine; nothing of the machine is mounted into them.
"""


def findings_page() -> str:
    lines = [FINDINGS_HEAD.rstrip()]
    for rule in RULES:
        lines += ["", f"## {rule.id}", "", f"**{rule.title}** ({rule.severity})", "", rule.why, ""]
        lines += ["```", rule.fix, "```"]
    return "\n".join(lines) + "\n"


PAGES = {
    "commands.md": commands.page,
    "contract.md": page,
    "findings.md": findings_page,
    "launch-settings.md": launch_settings.page,
    "region-operations.md": operations.page,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    checking = parser.parse_args().check
    stale = []
    for name, make in PAGES.items():
        path, text = REFERENCE / name, make()
        if checking:
            stale += [name] if not path.exists() or path.read_text() != text else []
        else:
            path.write_text(text)
    if stale:
        sys.stderr.write(f"{', '.join(stale)} stale: run scripts/docs\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
