"""The script of a ScriptProcessor: split the rows of a CSV file, and write a metadata message."""

import argparse
import json
import os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--ratio", type=float, required=True)
ratio = parser.parse_args().ratio

base = Path("/opt/ml/processing")
rows = sorted((base / "input" / "data").rglob("*.csv"))
lines = [line for path in rows for line in path.read_text().splitlines()]
cut = round(len(lines) * ratio)
for name, part in (("train", lines[:cut]), ("test", lines[cut:])):
    # The platform has made the folders of the outputs.
    (base / "output" / name / "part.csv").write_text("\n".join(part))

job = json.loads(Path("/opt/ml/config/processingjobconfig.json").read_text())
hosts = json.loads(Path("/opt/ml/config/resourceconfig.json").read_text())
message = {
    "rows": len(lines),
    "job": job["ProcessingJobName"],
    "hosts": hosts["hosts"],
    "stage": os.environ.get("STAGE"),
}
output = Path("/opt/ml/output")
output.mkdir(exist_ok=True)
(output / "message").write_text(json.dumps(message))
print(f"{len(lines)} rows, {cut} for training")
