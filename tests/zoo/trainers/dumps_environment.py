"""Writes its arguments and its environment into the output folder."""

import json
import os
import sys
from pathlib import Path

facts = {"argv": sys.argv[1:], "environ": dict(os.environ), "cwd": str(Path.cwd())}
Path(os.environ["SM_OUTPUT_DATA_DIR"], "facts.json").write_text(json.dumps(facts))
