"""Pack what examples/gpt has trained with the code that serves it: MODEL_DIR into MODEL.tar.gz."""

import argparse
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
CODE = (HERE / "inference.py", HERE.parent / "gpt" / "model.py")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("archive", type=Path)
    arguments = parser.parse_args()
    with tarfile.open(arguments.archive, "w:gz") as archive:
        for file in sorted(arguments.model_dir.iterdir()):
            archive.add(file, file.name)
        for file in CODE:
            archive.add(file, f"code/{file.name}")


if __name__ == "__main__":
    main()
