"""Write scikit-learn's 1,797 scanned digits as two channels: DIR/train and DIR/test.

The scans are those of the UCI "Optical Recognition of Handwritten Digits" test set; scikit-learn
carries them, so nothing is downloaded. A fifth is held out, the same share of every digit.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory

    digits = load_digits()
    rows = np.column_stack([digits.target, digits.data]).astype(int)
    parts = train_test_split(rows, test_size=360, stratify=digits.target, random_state=0)
    for name, part in zip(("train", "test"), parts, strict=True):
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / "digits.csv", part, fmt="%d", delimiter=",")
        print(f"{folder / 'digits.csv'}: {len(part)} scans")


if __name__ == "__main__":
    main()
