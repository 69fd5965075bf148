"""Send held-out scans to the served model, show a few with their answers, and count the right ones.

python ask.py http://127.0.0.1:8080 held-out.csv --at-least 0.95
"""

import argparse
import json
import sys
import time
import urllib.request

import numpy as np

SHADES = " ░▒▓█"
SHOWN = 6
REQUESTS = 12


def invoke(url, scans):
    """The model's answers for `scans`, as JSON over HTTP."""
    body = json.dumps(scans.tolist()).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(f"{url}/invocations", body, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def picture(scan):
    """Eight lines of eight grey values from 0 to 16, two characters each."""
    levels = np.rint(scan.reshape(8, 8) * (len(SHADES) - 1) / 16).astype(int)
    return ["".join(SHADES[level] * 2 for level in row) for row in levels]


def show(scans, labels, answers):
    for lines in zip(*(picture(scan) for scan in scans), strict=True):
        print("  ".join(lines))
    captions = (
        f"{answer['digit']} ({answer['probability']:.0%}) {mark(answer, label)}"
        for answer, label in zip(answers, labels, strict=True)
    )
    print("  ".join(f"{caption:^16}" for caption in captions))


def mark(answer, label):
    return "right" if answer["digit"] == label else f"is {label}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("csv")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="ACCURACY")
    arguments = parser.parse_args()

    rows = np.loadtxt(arguments.csv, delimiter=",", dtype=int)
    labels, scans = rows[:, 0], rows[:, 1:]
    started = time.monotonic()
    answers = [
        answer for some in np.array_split(scans, REQUESTS) for answer in invoke(arguments.url, some)
    ]
    seconds = time.monotonic() - started

    right = np.array([answer["digit"] for answer in answers]) == labels
    # A few that were answered rightly, and one that was not if there is one.
    chosen = [*np.flatnonzero(right)[: SHOWN - 1], *np.flatnonzero(~right)[:1]]
    show(scans[chosen], labels[chosen], [answers[index] for index in chosen])
    print(
        f"\naccuracy {right.mean():.1%} on {len(scans)} held-out scans, "
        f"{seconds * 1e3 / REQUESTS:.1f} ms a request of {len(scans) // REQUESTS}"
    )
    if right.mean() < arguments.at_least:
        sys.exit(f"accuracy is under {arguments.at_least:.0%}")


if __name__ == "__main__":
    main()
