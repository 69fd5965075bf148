"""The container entry, under the variables that AWS's guide lists."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.unit.monitor.cases import TIME, Case, captured, csv_text

from sagemaker_byoc.monitor.analyzer import main

ROWS = [[number, number / 7] for number in range(400)]
CAPTURE = '{"sagemakerCaptureJson": {"captureIndexNames": ["endpointInput","endpointOutput"]}}'


class Container:
    """/opt/ml of a processing job in a folder."""

    def __init__(self, root):
        self.root = root
        self.case = Case(root, ["a", "b"], ROWS)
        self.data = root / "processing" / "endpointdata"
        self.out = root / "processing" / "resultdata"
        self.hour = self.data / "endpoint-name" / "AllTraffic" / "2026" / "11" / "23" / "14"
        self.hour.mkdir(parents=True)
        self.environment = {
            "dataset_format": CAPTURE,
            "dataset_source": str(self.data),
            "output_path": str(self.out),
            "publish_cloudwatch_metrics": "Enabled",
            "sagemaker_endpoint_name": "endpoint-name",
            "sagemaker_monitoring_schedule_name": "schedule-name",
            "start_time": "2026-11-23T14: 00: 00Z",
            "end_time": "2026-11-23T15:00:00Z",
            "baseline_constraints": f"{self.case.baseline}/constraints.json",
            "baseline_statistics": f"{self.case.baseline}/statistics.json",
        }

    def run(self, **changes):
        given = {key: value for key, value in (self.environment | changes).items() if value}
        return main(given, self.root)

    @property
    def message(self):
        return (self.root / "output" / "message").read_text()

    def metrics(self):
        folder = self.root / "output" / "metrics" / "cloudwatch"
        lines = (folder / "cloudwatch_metrics.jsonl").read_text().splitlines()
        return {each["MetricName"]: each for each in map(json.loads, lines)}


@pytest.fixture
def container(tmp_path):
    made = Container(tmp_path)
    (made.hour / "00-01.jsonl").write_bytes(captured(ROWS))
    return made


def test_no_violation(container):
    assert container.run() == 0
    assert container.message == "Completed: Job completed successfully with no violations."
    found = json.loads((container.out / "constraint_violations.json").read_text())
    assert found == {"violations": []}


def test_violations(container):
    (container.hour / "00-02.jsonl").write_bytes(captured([["x", 1e6]] * 900))
    assert container.run() == 0
    assert container.message.startswith("CompletedWithViolations: Job completed successfully with ")


def test_the_message_says_what_was_not_compared(container):
    """The status is told by how the message begins; no explanation is needed to doubt it."""
    (container.case.folder / "baseline" / "statistics.json").write_text('{"features": []}')
    assert container.run() == 0
    assert container.message == (
        "Completed: Job completed successfully with no violations. "
        "Not compared: 2 (explanation.json says why)."
    )
    about = json.loads((container.out / "explanation.json").read_text())["about"]
    assert (about["endpoint"], about["schedule"]) == ("endpoint-name", "schedule-name")


def test_only_the_window(container):
    """More than the window may lie there; an hour's folder outside is not opened."""
    other = container.hour.parent / "12"
    other.mkdir()
    (other / "00-01.jsonl").write_bytes(b"not even JSON")
    assert container.run() == 0
    assert json.loads((container.out / "statistics.json").read_text())["dataset"] == {
        "item_count": 400
    }


def test_an_hour_without_traffic(container):
    """Neither of the two endings of a job that compared something."""
    late = {"start_time": "2026-11-23T16:00:00Z", "end_time": "2026-11-23T17:00:00Z"}
    assert container.run(**late) == 4
    assert "endpointdata holds no record since 2026-11-23T16:00:00+00:00 until" in container.message
    assert not container.out.exists()


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ('{"json": {"line": true}}', "\n".join(json.dumps({"a": a, "b": b}) for a, b in ROWS)),
        ('{"json": {"line": false}}', json.dumps([{"a": a, "b": b} for a, b in ROWS], indent=1)),
        ('{"csv": {"header": false}}', csv_text(ROWS)),
        ("", csv_text([["a", "b"], *ROWS])),
    ],
)
def test_formats_of_batch_transform_input(container, form, text):
    place = container.root / "input"
    place.mkdir()
    (place / "rows").write_text(text)
    window = {"start_time": "", "end_time": ""}
    assert container.run(dataset_format=form, dataset_source=str(place), **window) == 0
    assert container.message == "Completed: Job completed successfully with no violations."


def test_metrics_for_cloudwatch(container):
    container.run()
    found = container.metrics()
    assert sorted(found) == [
        "feature_baseline_drift_a",
        "feature_baseline_drift_b",
        "feature_data_a",
        "feature_data_b",
        "feature_non_null_a",
        "feature_non_null_b",
    ]
    assert found["feature_data_a"]["StatisticValues"] == {
        "SampleCount": 400.0,
        "Sum": 79800.0,
        "Minimum": 0.0,
        "Maximum": 399.0,
    }
    assert found["feature_non_null_a"]["Value"] == 1.0
    assert found["feature_non_null_a"]["Dimensions"] == [
        {"Name": "Endpoint", "Value": "endpoint-name"},
        {"Name": "MonitoringSchedule", "Value": "schedule-name"},
    ]


def test_no_metrics_unless_asked(container):
    container.run(publish_cloudwatch_metrics="Disabled")
    assert not (container.root / "output" / "metrics").exists()


def test_a_baseline_is_made_where_none_is_given(container):
    table = container.root / "dataset.csv"
    table.write_text(csv_text([["a", "b"], *ROWS]))
    assert (
        container.run(
            dataset_format='{"csv": {"header": true, "output_columns_position": "START"}}',
            dataset_source=str(table),
            baseline_constraints="",
            baseline_statistics="",
        )
        == 0
    )
    names = sorted(each.name for each in container.out.iterdir())
    assert names == ["constraints.json", "statistics.json"]
    found = json.loads((container.out / "statistics.json").read_text())
    assert found["dataset"] == {"item_count": 400, "output_columns_position": "START"}


def test_the_jobs_description_is_read_too(container):
    config = container.root / "config" / "processingjobconfig.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"Environment": container.environment}))
    assert main({}, container.root) == 0


def test_model_quality(container):
    table = container.root / "judged.csv"
    table.write_text(csv_text([["label", "guess"], *[[n % 2, n % 2] for n in range(300)]]))
    given = {
        "dataset_format": '{"csv": {"header": true}}',
        "dataset_source": str(table),
        "analysis_type": "MODEL_QUALITY",
        "problem_type": "BinaryClassification",
        "ground_truth_attribute": "label",
        "inference_attribute": "guess",
    }
    assert container.run(**given, baseline_constraints="") == 0
    limits = (container.out / "constraints.json").rename(container.root / "limits.json")
    table.write_text(csv_text([["label", "guess"], *[[n % 2, 1] for n in range(300)]]))
    assert container.run(**given, baseline_constraints=str(limits)) == 0
    assert container.message.startswith("CompletedWithViolations")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dataset_source": ""}, "the variable dataset_source is not set"),
        ({"dataset_format": "{"}, "dataset_format"),
        ({"dataset_format": "null"}, "dataset_format is 'null'"),
        ({"dataset_format": "[1]"}, "dataset_format is '[1]'"),
        (
            {"problem_type": "BinaryClassification", "probability_threshold_attribute": "7"},
            "is 7.0",
        ),
        ({"dataset_format": '{"avro": {}}'}, "'avro' can't be read here"),
        ({"start_time": "yesterday"}, "start_time is 'yesterday'"),
        ({"baseline_constraints": "/nowhere.json"}, "/nowhere.json does not exist"),
        ({"categorical_drift_method": "Best"}, "categorical_drift_method is 'Best'"),
        ({"problem_type": "Guessing"}, "problem_type"),
    ],
)
def test_a_job_that_fails(container, changes, told):
    assert container.run(**changes) == 1
    assert container.message.startswith("Failed: ")
    assert told in container.message
    assert "Traceback" not in container.message


SCRIPT = """
seen = []
def preprocess_handler(inference_record, logger):
    assert inference_record.endpoint_output.encoding == "CSV"
    assert inference_record.event_metadata.event_id.startswith("event-")
    first, second = inference_record.endpoint_input.data.rstrip("\\n").split(",")
    if int(first) % 2:
        return []
    return {str(place).zfill(20): cell for place, cell in enumerate([first, second])}
"""


def test_scripts(container, capfd):
    before, after = container.root / "before.py", container.root / "after.py"
    before.write_text(SCRIPT)
    after.write_text("def postprocess_handler():\n    print('Hello from post-proc script!')\n")
    code = container.run(
        record_preprocessor_script=str(before), post_analytics_processor_script=str(after)
    )
    assert code == 0
    assert "Hello from post-proc script!" in capfd.readouterr().out
    found = json.loads((container.out / "statistics.json").read_text())
    assert found["dataset"] == {"item_count": 200}
    assert [each["name"] for each in found["features"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "def preprocess_handler(record):\n    return record.nothing\n",
            "preprocess_handler failed",
        ),
        ("x = 1\n", "has no preprocess_handler"),
        ("1 +\n", "can't be loaded"),
    ],
)
def test_scripts_that_fail(container, text, told):
    script = container.root / "before.py"
    script.write_text(text)
    assert container.run(record_preprocessor_script=str(script)) == 1
    assert told in container.message


def test_the_module_runs(container):
    environment = {**os.environ, **container.environment, "SAGEMAKER_BASE_DIR": str(container.root)}
    done = subprocess.run(
        [sys.executable, "-m", "sagemaker_byoc.monitor"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == container.message
    assert TIME.hour == 14


def test_results_do_not_replace_the_baseline(container):
    constraints = container.root / "baseline" / "constraints.json"
    before = constraints.read_bytes()
    assert container.run(output_path=container.case.baseline) == 1
    assert "holds the baseline" in container.message
    assert constraints.read_bytes() == before
