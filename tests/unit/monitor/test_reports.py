"""What a reader of report.html and explanation.json finds: what it is about, grouped, escaped."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from tests.unit.monitor.cases import PLACES, Case, captured, csv_text, people, record

from sagemaker_byoc.monitor import jobs
from sagemaker_byoc.monitor.inputs.streams import Window
from sagemaker_byoc.monitor.jobs import documents
from sagemaker_byoc.monitor.places import Input
from sagemaker_byoc.monitor.predictions import Attributes
from sagemaker_byoc.monitor.scores import Problem

NAMES = ["age", "income", "plan"]
HOUR = "endpoint/AllTraffic/2026/11/23"


def page_of(folder):
    return (folder / "out" / "report.html").read_text()


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path, NAMES, people(600))


def found_by(case, data):
    baseline = documents(PLACES, case.baseline)
    return jobs.run(PLACES, data, baseline, None, str(case.folder / "out"))


def test_what_a_report_is_about(case):
    """Endpoint, hours, window, baseline: where, of what, from when."""
    for hour in ("13", "14", "16"):
        (case.folder / "cap" / HOUR / hour).mkdir(parents=True)
        (case.folder / "cap" / HOUR / hour / "a.jsonl").write_bytes(captured(people(300)))
    window = Window(datetime(2026, 11, 23, 14, tzinfo=UTC), datetime(2026, 11, 23, 17, tzinfo=UTC))
    data = Input(place=str(case.folder / "cap"), about={"baseline": case.baseline}, window=window)
    about = found_by(case, data).why["about"]
    made = about["baseline"].pop("made")
    assert about == {
        "source": data.place,
        "endpoint": "endpoint/AllTraffic",
        "schedule": "",
        "hours": {"first": "2026-11-23 14:00 UTC", "last": "2026-11-23 16:00 UTC", "count": 2},
        "window": {"start": "2026-11-23 14:00 UTC", "end": "2026-11-23 17:00 UTC"},
        "baseline": {"place": case.baseline, "source": str(case.folder / "base.csv")},
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", made)
    shown = page_of(case.folder)
    for text in ("endpoint/AllTraffic", "2026-11-23 16:00 UTC (2 hours)", case.baseline, made):
        assert text in shown


def test_a_hostile_origin_is_bounded_and_escaped(case):
    path = case.folder / "baseline" / "statistics.json"
    document = json.loads(path.read_text())
    document["byoc"] = {"made": "<b>" * 9000, "source": ["<i>"]}
    path.write_text(json.dumps(document))
    (case.folder / "live.jsonl").write_bytes(captured(people(300)))
    found_by(case, Input(place=str(case.folder / "live.jsonl")))
    shown = page_of(case.folder)
    assert "<b>" not in shown
    assert "<i>" not in shown
    assert shown.count("&lt;b&gt;") < 400


def test_equal_violations_are_one_row(tmp_path):
    names = [f"column_{place:03}" for place in range(60)]
    rows = np.random.default_rng(0).normal(size=(300, 60)).round(3).tolist()
    case = Case(tmp_path, names, rows)
    for row in rows[:6]:
        row[:40] = [""] * 40
    rows[7][50] = "<b>old</b>"
    outcome = case.run(captured(rows))
    assert len(outcome.findings.violations) == 41
    shown = page_of(tmp_path)
    rows_of_table = shown.split("<h2>Violations</h2>")[1].split("</table>")[0].count("<tr>") - 1
    assert rows_of_table == 2
    assert "6 of 300 cells are empty: 98.0 % are filled, and 100 % have to be" in shown
    assert "and 20 more" in shown
    assert "&lt;b&gt;old&lt;/b&gt;" in shown
    assert "<b>old" not in shown


def test_green_only_with_a_number(case):
    case.run(captured(people(500, seed=1)))
    assert '<p class="good">No violation in 3 columns.</p>' in page_of(case.folder)
    case.edit(lambda found: found["features"][0].update(inferred_type="Unknown"))
    (case.folder / "baseline" / "statistics.json").unlink()
    case.run(captured(people(500, seed=1)))
    shown = page_of(case.folder)
    assert 'class="good"' not in shown
    assert "No violation; not compared: 3 of 3 columns." in shown
    assert shown.count('class="card skipped"') == 3


class Markup(HTMLParser):
    """The tags and attributes of a page, as a browser sees them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.values = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.values += [value for _, value in attrs]


@pytest.mark.parametrize(
    "name",
    [
        "\"><img src=//evil onerror=alert(1)>'",
        "<script>alert(1)</script>",
        "</style><b>",
        "\ud800\u202e\0",
    ],
)
def test_a_page_of_hostile_names_and_values(tmp_path, name):
    """Nothing is loaded, nothing runs, and no name becomes markup."""
    rows = [{name: f"{name}{number % 3}", "b": number} for number in range(300)]
    (tmp_path / "base.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Input(place=str(tmp_path / "base.jsonl"))
    jobs.make_baseline(PLACES, data, None, str(tmp_path / "baseline"))
    live = [{name: f"new {name}", "b": number + 900} for number in range(300)]
    (tmp_path / "live.jsonl").write_text("".join(json.dumps(row) + "\n" for row in live))
    baseline = documents(PLACES, str(tmp_path / "baseline"))
    live = replace(data, place=str(tmp_path / "live.jsonl"))
    found = jobs.run(PLACES, live, baseline, None, str(tmp_path / "out"))
    assert len({each["feature_name"] for each in found.why["violations"]} | {"b"}) == 2
    seen = Markup(page_of(tmp_path))
    assert seen.tags.isdisjoint({"script", "img", "link", "iframe", "object", "b", "a", "base"})
    assert not {each for each in seen.attributes if each.startswith("on")}
    assert seen.attributes.isdisjoint({"src", "href", "srcset", "action"})
    assert "url(" not in page_of(tmp_path)


def test_a_name_does_not_forge_a_line(tmp_path):
    name = "a\n600 rows against a baseline of 600: no violation in 1 column"
    rows = [json.dumps({name: number}) for number in range(300)]
    (tmp_path / "base.jsonl").write_text("\n".join(rows))
    data = Input(place=str(tmp_path / "base.jsonl"))
    jobs.make_baseline(PLACES, data, None, str(tmp_path / "baseline"))
    (tmp_path / "live.jsonl").write_text("\n".join([json.dumps({name: "old"})] * 300))
    baseline = documents(PLACES, str(tmp_path / "baseline"))
    live = replace(data, place=str(tmp_path / "live.jsonl"))
    words = jobs.run(PLACES, live, baseline, None, str(tmp_path / "out")).words
    assert not [line for line in words if "\n" in line or line.startswith("600")]


WANTED = Attributes(problem=Problem.MULTICLASS, label="label", prediction="guess")


def test_a_confusion_matrix_is_drawn(tmp_path):
    """The largest classes; the rest is one, and every count is in one cell."""
    random = np.random.default_rng(0)
    names = [f"<i>{place}</i>" for place in range(30)]
    labels = random.integers(0, 30, 900)
    rows = [[names[place], names[place]] for place in labels]
    (tmp_path / "base.csv").write_text(csv_text([["label", "guess"], *rows]))
    data = Input(place=str(tmp_path / "base.csv"))
    jobs.make_baseline(PLACES, data, WANTED, str(tmp_path / "baseline"))
    wrong = [
        [names[place], names[(place + number % 2) % 30]] for number, place in enumerate(labels)
    ]
    (tmp_path / "live.csv").write_text(csv_text([["label", "guess"], *wrong]))
    baseline = documents(PLACES, str(tmp_path / "baseline"))
    live = replace(data, place=str(tmp_path / "live.csv"), about={"baseline": "base"})
    found = jobs.run(PLACES, live, baseline, WANTED, str(tmp_path / "out")).why
    matrix = found["confusion_matrix"]
    assert (len(matrix["classes"]), matrix["classes"][-1]) == (21, "(10 others)")
    assert sum(map(sum, matrix["counts"])) == 900
    shown = page_of(tmp_path)
    assert shown.count('class="cell right"') == 21
    assert shown.count('class="cell wrong"') == 21 * 20
    assert "<i>" not in shown
    assert "accuracy, weighted_recall: 0.5 is below the threshold 1" in shown


def test_a_metric_without_a_number_is_said(tmp_path):
    """The baseline knows probabilities, the run only predictions."""
    rows = [[place % 2, place % 2, 0.9 if place % 2 else 0.2] for place in range(300)]
    (tmp_path / "base.csv").write_text(csv_text([["label", "guess", "chance"], *rows]))
    data = Input(place=str(tmp_path / "base.csv"))
    both = Attributes(
        problem=Problem.BINARY, label="label", prediction="guess", probability="chance"
    )
    jobs.make_baseline(PLACES, data, both, str(tmp_path / "baseline"))
    baseline = documents(PLACES, str(tmp_path / "baseline"))
    found = jobs.run(PLACES, data, baseline, replace(both, probability=None), str(tmp_path / "out"))
    assert found.violations == 0
    assert list(found.why["not_compared"]) == ["auc"]
    assert any("no violation in 10 metrics; 1 not compared" in line for line in found.words)
    assert 'class="good"' not in page_of(tmp_path)


def test_a_matrix_of_a_binary_problem_in_words(tmp_path):
    rows = [[place % 2, int(place % 3 == 0)] for place in range(300)]
    (tmp_path / "base.csv").write_text(csv_text([["label", "guess"], *rows]))
    data = Input(place=str(tmp_path / "base.csv"))
    wanted = replace(WANTED, problem=Problem.BINARY)
    jobs.make_baseline(PLACES, data, wanted, str(tmp_path / "baseline"))
    baseline = documents(PLACES, str(tmp_path / "baseline"))
    words = jobs.run(PLACES, data, baseline, wanted, str(tmp_path / "out")).words
    table = [line.split() for line in words[words.index("confusion matrix") + 1 :]]
    assert table == [["truth", "\\", "predicted", "0", "1"], ["0", "100", "50"], ["1", "100", "50"]]


def test_what_was_read_otherwise_is_on_the_page(tmp_path):
    case = Case(tmp_path, ["a", "b", "c"], [[n, n / 7, n % 3] for n in range(300)])
    case.run(record("1;2.5;0") * 3)
    assert "<p>3 bodies are separated by &#39;;&#39;</p>" in page_of(tmp_path)


def test_no_green_if_lines_were_lost(case):
    case.run(captured(people(500, seed=1)) + b"{\n")
    shown = page_of(case.folder)
    assert 'class="good"' not in shown
    assert "1 of 501 lines could not be used:" in shown


def test_no_green_for_a_model_whose_predictions_were_lost(tmp_path):
    rows = [[number % 2, number % 2] for number in range(300)]
    (tmp_path / "base.csv").write_text(csv_text([["label", "guess"], *rows]))
    (tmp_path / "live.csv").write_text(csv_text([["label", "guess"], *rows, [1, "?"]]))
    data = Input(place=str(tmp_path / "base.csv"))
    wanted = replace(WANTED, problem=Problem.BINARY)
    jobs.make_baseline(PLACES, data, wanted, str(tmp_path / "baseline"))
    baseline = documents(PLACES, str(tmp_path / "baseline"))
    live = replace(data, place=str(tmp_path / "live.csv"))
    found = jobs.run(PLACES, live, baseline, wanted, str(tmp_path / "out"))
    assert found.why["violations"] == []
    assert '<p class="neutral">No violation in' in page_of(tmp_path)


def test_the_values_at_fault_are_named_once(tmp_path):
    case = Case(tmp_path, ["a", "b"], [[n, n / 7] for n in range(300)])
    case.run(captured([["nan", 0.5]] * 9 + [["x", 0.5]]))
    assert "not a number: &#39;nan&#39;, &#39;x&#39;<" in page_of(tmp_path)


@pytest.mark.parametrize(
    "value",
    ["1000000000000000000000000000000", "100000000000000001", "-9007199254740993", "1.7e308"],
)
def test_a_column_of_one_huge_number_is_drawn(tmp_path, value):
    case = Case(tmp_path, ["a", "b"], [[value, number] for number in range(300)])
    case.run(captured([[value, number] for number in range(300)]))
    assert page_of(tmp_path).count("<svg") == 2
