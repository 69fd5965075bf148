"""Baselines and captured traffic in a folder."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import numpy as np

from sagemaker_byoc.contract.capture import Encoding, Payload, Record
from sagemaker_byoc.monitor import jobs
from sagemaker_byoc.monitor.places import Input, Places

TIME = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
PLACES = Places()


def people(count, seed=0):
    """Rows of an age, an income, a plan."""
    random = np.random.default_rng(seed)
    return [
        [int(random.integers(20, 60)), round(float(random.normal(3000, 500)), 2), plan]
        for plan in random.choice(["basic", "pro"], size=count)
    ]


def csv_text(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def record(request, answer="0.5", *, kind=Encoding.CSV, out=Encoding.CSV, **rest):
    types = {Encoding.CSV: "text/csv", Encoding.JSON: "application/json"}
    return Record(
        input=None if request is None else Payload(types.get(kind, "text/html"), request, kind),
        output=None if answer is None else Payload(types.get(out, "text/html"), answer, out),
        event_id=f"event-{rest.get('number', 0)}",
        time=rest.get("time", TIME),
    ).to_line()


def captured(rows, answer="0.5"):
    return b"".join(
        record(csv_text([row]), answer, number=number) for number, row in enumerate(rows)
    )


def read_baseline(folder):
    return jobs.parse_baseline(jobs.documents(PLACES, folder), folder)


class Case:
    """A baseline of `rows`, and runs against it."""

    def __init__(self, folder, names, rows, **options):
        self.folder = folder
        (folder / "base.csv").write_text(csv_text([names, *rows]))
        self.baseline = str(folder / "baseline")
        jobs.make_data_baseline(
            PLACES, Input(place=str(folder / "base.csv"), **options), self.baseline
        )

    def edit(self, change):
        path = self.folder / "baseline" / "constraints.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    def run(self, data, name="live.jsonl", **options):
        place = self.folder / name
        place.write_bytes(data)
        return jobs.run_data(
            PLACES,
            Input(place=str(place), **options),
            read_baseline(self.baseline),
            str(self.folder / "out"),
        )

    def checks(self, data, **options):
        """(feature, check) of each violation."""
        found = self.run(data, **options).findings.violations
        return [(each.feature, each.check) for each in found]

    def run_place(self, place):
        baseline = read_baseline(self.baseline)
        return jobs.run_data(PLACES, Input(place=place), baseline, str(self.folder / "out"))
