"""Which rows of predictions and labels can be judged: one that can't costs itself alone."""

from __future__ import annotations

import base64
import json

import pytest
from tests.unit.monitor.cases import PLACES, csv_text, record

from sagemaker_byoc.contract.capture import Encoding, GroundTruth
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor import ground_truth, model_quality, predictions
from sagemaker_byoc.monitor.inputs.streams import DataError, EmptyError
from sagemaker_byoc.monitor.places import Input
from sagemaker_byoc.monitor.predictions import Attributes
from sagemaker_byoc.monitor.scores import Problem, judge

BINARY, MANY, NUMBER = Problem.BINARY, Problem.MULTICLASS, Problem.REGRESSION


@pytest.fixture
def judged(tmp_path):
    """What comes of records and the labels for them: accuracy or mae, and the rows gathered."""

    def run(answers, labels, problem=BINARY, *, out=Encoding.CSV, **options):
        lines = [record("1", each, number=n, out=out) for n, each in enumerate(answers)]
        given = [
            each if isinstance(each, dict) else GroundTruth(f"event-{n}", each)
            for n, each in enumerate(labels)
        ]
        text = [
            each.to_line() if isinstance(each, GroundTruth) else json.dumps(each).encode() + b"\n"
            for each in given
        ]
        (tmp_path / "live.jsonl").write_bytes(b"".join(lines))
        (tmp_path / "truth.jsonl").write_bytes(b"".join(text))
        wanted = Attributes(problem=problem, labels=str(tmp_path / "truth.jsonl"), **options)
        gathered = model_quality._gather(PLACES, Input(place=str(tmp_path / "live.jsonl")), wanted)
        found = judge(problem, predictions.arrays(gathered, wanted))
        return found.scores["mae" if problem is NUMBER else "accuracy"].value, gathered

    return run


@pytest.mark.parametrize(
    ("label", "answer", "reason"),
    [
        ("2", "0.5", "a label is not 0 or 1"),
        ("maybe", "0.5", "a label is not 0 or 1"),
        ("", "0.5", "ground truth: groundTruthData.data is missing"),
        ("nan", "0.5", "a label is missing"),
        ("1", "nan", "a probability is not a number from 0 to 1"),
        ("1", "inf", "a probability is not a number from 0 to 1"),
        ("1", "-0.1", "a probability is not a number from 0 to 1"),
        ("1", "None", "a probability is not a number from 0 to 1"),
        ("1", "1_0", "a probability is not a number from 0 to 1"),
        ("1", "", "a prediction is missing"),
        ("1", "[]", "a prediction is missing"),
    ],
)
def test_a_bad_row_costs_itself(judged, label, answer, reason):
    accuracy, gathered = judged(["0.9", "0.1", answer], ["1", "0", label], probability="0")
    assert (accuracy, len(gathered.labels)) == (1.0, 2)
    assert reason in gathered.unread.reasons
    assert "jsonl:3" in gathered.unread.first[reason]


@pytest.mark.parametrize(
    ("label", "answer", "reason"),
    [
        ("abc", "2", "a label is not a number"),
        ("inf", "2", "a label is not a number"),
        ("2", "nan", "a prediction is not a number"),
        ("2", "true", "a prediction is not a number"),
    ],
)
def test_a_bad_row_of_a_regression(judged, label, answer, reason):
    error, gathered = judged(["1.5", "2", answer], ["1", "2", label], NUMBER)
    assert (error, len(gathered.labels)) == (0.25, 2)
    assert gathered.unread.reasons == {reason: 1}


def test_more_than_half_bad_is_an_error(judged):
    """What is left would be taken for the whole."""
    assert judged(["0.9", "x"], ["1", "1"])[1].unread.count == 1
    with pytest.raises(DataError, match=r"2 of 3 rows can't be judged, 2 of them: a probability"):
        judged(["0.9", "x", "y"], ["1", "1", "1"])


def test_no_label_yet_is_neither_good_nor_bad(judged):
    with pytest.raises(EmptyError, match="none of 1 predictions has a label") as error:
        judged(["0.9"], [{"groundTruthData": {"data": 1}, "eventMetadata": {"eventId": "other"}}])
    assert error.value.exit_code == 4


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("1", "CSV"),
        ("1\n", "CSV"),
        ('"1"', "CSV"),
        ("1.0", "csv"),
        ("True", "CSV"),
        ("1", "JSON"),
        ('"1"', "JSON"),
        ("true", "JSON"),
        ('{"label": 1}', "JSON"),
        ('{"instances": [{"label": 1}]}', "JSON"),
        ('{"id": 7, "label": 1}', "JSON"),
        (base64.b64encode(b"1").decode(), "BASE64"),
        (1, "CSV"),
        (1.0, None),
        (True, None),
        ([1], None),
        ({"label": 1}, None),
    ],
)
def test_forms_of_a_label(judged, data, encoding):
    truth_ = {"data": data} | ({"encoding": encoding} if encoding else {})
    document = {"groundTruthData": truth_, "eventMetadata": {"eventId": "event-0"}}
    assert judged(["0.9"], [document])[0] == 1.0


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"groundTruthData": {"data": None, "encoding": "CSV"}}, "groundTruthData.data is missing"),
        ({"groundTruthData": 7}, "groundTruthData is missing"),
        ({"groundTruthData": {"data": "1", "encoding": "X"}}, "encoding is not one of"),
        ({"groundTruthData": {"data": "1", "encoding": "CSV"}, "eventMetadata": {}}, "eventId is"),
        ({"groundTruthData": {"data": [], "encoding": "CSV"}}, "holds no label"),
        ({"groundTruthData": {"data": '{"a": 1, "b": 2}', "encoding": "JSON"}}, "no 'label'"),
        ({"groundTruthData": {"data": "{", "encoding": "JSON"}}, "a body that is not JSON"),
        (["x"], "groundTruthData is missing"),
    ],
)
def test_labels_of_no_use(judged, document, told):
    if isinstance(document, dict):
        document = {"eventMetadata": {"eventId": "event-1"}} | document
        accuracy, gathered = judged(["0.9", "0.1"], ["1", document])
    else:
        accuracy, gathered = judged(["0.9"], ["1", {"x": document}])
    assert accuracy == 1.0
    ((reason, _),) = gathered.unread.reasons.items()
    assert told in reason


def test_labels_that_are_late_double_or_of_another_record(judged):
    documents = [
        {"groundTruthData": {"data": label, "encoding": "CSV"}, "eventMetadata": {"eventId": key}}
        for key, label in [("event-0", "0"), ("event-0", "1"), ("elsewhere", "1")]
    ]
    accuracy, gathered = judged(["0.9", "0.9"], documents)
    assert (accuracy, gathered.unlabelled) == (1.0, 1)
    assert gathered.unread.notices == {
        "labels took the place of an earlier one of the same id": 1,
        "labels belong to no record that was read": 1,
    }


@pytest.mark.parametrize("text", ["[{}, {}]", "[\n{},\n{}\n]\n"])
def test_a_json_array_of_labels(tmp_path, text):
    """As AWS's notebook for batch transform in JSON uploads them, in a file named .jsonl."""
    some = [GroundTruth(f"event-{n}", "1").to_line().decode().strip() for n in range(2)]
    (tmp_path / "t.jsonl").write_text(text.replace("{}", "%s") % tuple(some))
    known, unread = ground_truth.labels([str(tmp_path / "t.jsonl")], PLACES.open)
    assert {key: each.data for key, each in known.items()} == {"event-0": "1", "event-1": "1"}
    assert unread.count == 0


@pytest.mark.parametrize(
    ("answer", "out", "label", "options"),
    [
        # classes
        ("dog", Encoding.CSV, "dog", {}),
        ("2.0", Encoding.CSV, "2", {}),
        ('{"predicted_label": "dog", "score": 0.4}', Encoding.JSON, "dog", {}),
        ("0.4,dog", Encoding.CSV, "dog", {"prediction": "1"}),
        ('{"predictions": [{"score": 0.4, "predicted_label": 2}]}', Encoding.JSON, "2",
         {"prediction": "predictions[*].predicted_label"}),
        ('{"predictions": ["dog"], "model": "m"}', Encoding.JSON, "dog",
         {"prediction": "predictions"}),
        ('{"a": {"b": "dog"}}', Encoding.JSON, "dog", {"prediction": "$.a.b"}),
        # probabilities of all classes
        ("0.1,0.2,0.7", Encoding.CSV, "2", {}),
        ("[0.1, 0.2, 0.7]", Encoding.JSON, "2", {}),
        ('{"predictions": [[0.1, 0.2, 0.7]]}', Encoding.JSON, "2", {}),
        ('{"cat": 0.3, "dog": 0.7}', Encoding.JSON, "dog", {}),
        ('{"id": "x", "probabilities": [0.1, 0.2, 0.7]}', Encoding.JSON, "2",
         {"probability": "probabilities"}),
        ('{"id": "x", "p": {"cat": 0.3, "dog": 0.7}}', Encoding.JSON, "dog", {"probability": "p"}),
        ('dog,0.7,"[0.3, 0.7]"', Encoding.CSV, "1", {"probability": "2"}),
        ('"[0.3, 0.1, 0.6]"', Encoding.CSV, "2", {}),
        ("0.3333,0.3333,0.3334", Encoding.CSV, "2", {}),
    ],
)  # fmt: skip
def test_several_classes(judged, answer, out, label, options):
    accuracy, gathered = judged([answer], [label], MANY, out=out, **options)
    assert (accuracy, gathered.unread.count) == (1.0, 0)


@pytest.mark.parametrize(
    ("answer", "options", "told"),
    [
        ("3.2,-1.5,0.4", {}, "it is not clear which cell of the output is the prediction"),
        ("0.7", {"probability": "0"}, "there is one probability"),
        ("0.7,0.9", {"probability": "x"}, "a label is missing"),
        ("0.7,x", {"probability": "p"}, "a probability is not a number"),
        ("", {}, "a prediction is missing"),
    ],
)
def test_classes_that_can_not_be_told(judged, answer, options, told):
    labels = ["1", "nan" if "label" in told else "1"]
    good = "1" if not options else "0.2,0.8"
    if options == {"probability": "0"}:
        good = '"[0.2, 0.8]"'
    _, gathered = judged([good, answer], labels, MANY, **options)
    ((reason, count),) = gathered.unread.reasons.items()
    assert told in reason
    assert count == 1


def test_probabilities_without_names_for_labels_with_names(judged):
    with pytest.raises(DataError, match=r"the labels are names \('dog'\)"):
        judged(["0.1,0.9"], ["dog"], MANY)


@pytest.mark.parametrize(
    ("answer", "out", "options", "has_chances"),
    [
        ("1", Encoding.CSV, {}, False),
        ("0.7", Encoding.CSV, {}, True),
        ("0.3,0.7", Encoding.CSV, {}, True),
        ("[0.3, 0.7]", Encoding.JSON, {}, True),
        ('{"1": 0.7, "0": 0.3}', Encoding.JSON, {}, True),
        ('{"p": [0.3, 0.7]}', Encoding.JSON, {"probability": "p"}, True),
        ("true", Encoding.JSON, {"prediction": "0"}, False),
        ('{"predictions": [{"score": 0.7, "predicted_label": 1}]}', Encoding.JSON,
         {"prediction": "predicted_label", "probability": "score"}, True),
        ('{"predictions": [{"score": 0.7}]}', Encoding.JSON,
         {"probability": "predictions[0].score"}, True),
        ('{"predictions": [{"label": [1], "score": [0.7]}]}', Encoding.JSON,
         {"prediction": "label", "probability": "score"}, True),
    ],
)  # fmt: skip
def test_two_classes(judged, answer, out, options, has_chances):
    accuracy, gathered = judged([answer], ["1"], out=out, **options)
    assert accuracy == 1.0
    wanted = Attributes(problem=BINARY, **options)
    assert (predictions.arrays(gathered, wanted).probabilities is not None) is has_chances


@pytest.mark.parametrize(
    ("answer", "out", "label"),
    [
        ("0.9\n0.1\n0.2", Encoding.CSV, "1,0,0"),
        ("0.9\n0.1\n0.2", Encoding.CSV, "1\n0\n0"),
        ('{"predictions": [0.9, 0.1, 0.2], "v": 1}', Encoding.JSON, "[1, 0, 0]"),
        ('{"predictions": [{"score": 0.9}, {"score": 0.1}, {"score": 0.2}]}', Encoding.JSON,
         '{"instances": [{"label": 1}, {"label": 0}, {"label": 0}]}'),
    ],
)  # fmt: skip
def test_several_predictions_in_a_record(judged, answer, out, label):
    encoding = "JSON" if label[:1] in "[{" else "CSV"
    document = {
        "groundTruthData": {"data": label, "encoding": encoding},
        "eventMetadata": {"eventId": "event-0"},
    }
    accuracy, gathered = judged([answer], [document], out=out)
    assert (accuracy, len(gathered.labels)) == (1.0, 3)
    assert gathered.unread.count == 0


def test_another_number_of_labels_than_predictions(judged):
    accuracy, gathered = judged(["0.9", "0.9\n0.1\n0.2"], ["1", "1,0"])
    assert accuracy == 1.0
    reason = "predictions and labels of a record differ in number"
    assert gathered.unread.reasons == {reason: 1}
    assert gathered.unread.first[reason].endswith(":2: 3 predictions, 2 labels")


def test_a_script_makes_what_is_judged(judged, tmp_path):
    """RecordPreprocessorSourceUri is part of a model quality job too."""
    script = tmp_path / "script.py"
    script.write_text(
        "def preprocess_handler(record):\n"
        "    return {'score': float(record.endpoint_output.data.strip('<>'))}\n"
    )
    (tmp_path / "live.jsonl").write_bytes(record("1", "<0.9>", out=Encoding.BASE64))
    (tmp_path / "t.jsonl").write_bytes(GroundTruth("event-0", "1").to_line())
    wanted = Attributes(problem=BINARY, probability="score", labels=str(tmp_path / "t.jsonl"))
    data = Input(place=str(tmp_path / "live.jsonl"), preprocess=script)
    assert model_quality._gather(PLACES, data, wanted).labels == [1.0]


@pytest.mark.parametrize("is_merged", [False, True])
def test_a_script_that_returns_the_label(judged, tmp_path, is_merged):
    """`ground_truth` of a record, and the names of the analyzer's columns, as scripts use them."""
    script = tmp_path / "script.py"
    script.write_text("""
import json
def preprocess_handler(inference_record):
    flat = {}
    said = json.loads(inference_record.endpoint_output.data)
    for i, each in enumerate(said["prediction"]):
        flat[f"endpointOutput_prediction{i}"] = each
    if hasattr(inference_record, "ground_truth"):
        for i, each in enumerate(json.loads(inference_record.ground_truth.data)):
            flat[f"groundTruthData_{i}"] = each
    return flat
""")
    label = GroundTruth("event-0", "[2.5]", Encoding.JSON)
    line = json.loads(record("1", '{"prediction": [3.0]}', out=Encoding.JSON))
    if is_merged:
        line["groundTruthData"] = {"data": label.data, "encoding": "JSON"}
    (tmp_path / "live.jsonl").write_text(json.dumps(line))
    (tmp_path / "t.jsonl").write_bytes(label.to_line())
    labels = None if is_merged else str(tmp_path / "t.jsonl")
    wanted = Attributes(problem=NUMBER, prediction="prediction0", labels=labels)
    data = Input(place=str(tmp_path / "live.jsonl"), preprocess=script)
    gathered = model_quality._gather(PLACES, data, wanted)
    assert (gathered.labels, gathered.predicted) == ([2.5], [3.0])


def test_no_place_of_labels(tmp_path):
    (tmp_path / "live.jsonl").write_bytes(record("1", "0.5"))
    wanted = Attributes(problem=BINARY)
    gathered = model_quality._gather(PLACES, Input(place=str(tmp_path / "live.jsonl")), wanted)
    with pytest.raises(RequestError, match=r"no labels are given\. Give --ground-truth"):
        predictions.arrays(gathered, wanted)


def test_a_regression_has_no_probability():
    with pytest.raises(RequestError, match="a regression has no probability"):
        predictions.check(Attributes(problem=NUMBER, probability="0"))


ID = "94bcc22a-0462-4bd1-92c9-b46a5aaec1a"
TIME = "2026-11-23T14:25:34Z"


def transform(kind):
    if kind == "csv":
        rows = [[1, 2, chance, f"{ID}{n}", TIME] for n, chance in enumerate((0.9, 0.1))]
        return csv_text(rows), {f"{ID}0": "1", f"{ID}1": "0"}, "2"
    said = [{"score": 0.9, "predicted_label": 1}, {"score": 0.1, "predicted_label": 0}]
    if kind == "json lines":
        lines = [
            {"SageMakerInferenceId": f"{ID}{n}", "SageMakerOutput": one, "features": [1, 2]}
            for n, one in enumerate(said)
        ]
        labels = {f"{ID}0": "1", f"{ID}1": "0"}
        return "\n".join(map(json.dumps, lines)), labels, "SageMakerOutput.score"
    many = [{"features": [1, 2]}, {"features": [3, 4]}]
    whole = {"SageMakerInferenceId": f"{ID}0", "SageMakerOutput": {"predictions": said}}
    path = "SageMakerOutput.predictions[*].score"
    return json.dumps(whole | {"instances": many}), {f"{ID}0": "1\n0"}, path


@pytest.mark.parametrize("kind", ["csv", "json lines", "json"])
def test_outputs_of_a_transform_and_their_labels(tmp_path, kind):
    text, labels, path = transform(kind)
    (tmp_path / "input.out").write_text(text)
    lines = [GroundTruth(key, label).to_line() for key, label in labels.items()]
    (tmp_path / "truth.jsonl").write_bytes(b"".join(lines))
    wanted = Attributes(problem=BINARY, probability=path, labels=str(tmp_path / "truth.jsonl"))
    gathered = model_quality._gather(PLACES, Input(place=str(tmp_path / "input.out")), wanted)
    assert (gathered.labels, gathered.predicted) == ([1.0, 0.0], [1.0, 0.0])
    assert gathered.unread.count == gathered.unlabelled == 0


def test_a_table_with_bad_rows(tmp_path):
    rows = [["p0", "p1", "label"], [0.1, 0.9, 1], [0.8, 0.2, 0], ["", 0.2, 0], [0.5, 0.5, "?"]]
    (tmp_path / "t.csv").write_text(csv_text(rows))
    wanted = Attributes(problem=BINARY, probability="p1", label="label")
    gathered = model_quality._gather(PLACES, Input(place=str(tmp_path / "t.csv")), wanted)
    assert len(gathered.labels) == 3
    assert dict(gathered.unread.first) == {"a label is not 0 or 1": "row 4: '?'"}


SCORED = [{"label": "a", "score": 0.9}, {"label": "b", "score": 0.1}]


@pytest.mark.parametrize(
    ("answer", "label", "problem", "expected"),
    [
        ({"classes": ["a", "b"], "scores": [0.1, 0.9]}, "b", MANY, "b"),
        ({"sequence": "a", "labels": ["b", "a"], "scores": [0.8, 0.2]}, "b", MANY, "b"),
        ({"score": 0.7, "predicted_label": 1}, "1", BINARY, 1),
        ({"id": 9, "prediction": "a", "took_ms": 3}, "a", MANY, "a"),
        (SCORED, "a", MANY, "a"),
        ({"id": 9, "prediction": 2.5}, "2.5", NUMBER, 2.5),
        ("true", "1", BINARY, 1),
        ("False", "0", BINARY, 0),
    ],
)
def test_answers_of_several_parts(judged, answer, label, problem, expected):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    out = Encoding.CSV if isinstance(answer, str) else Encoding.JSON
    value, gathered = judged([text] * 3, [label] * 3, problem, out=out)
    assert gathered.predicted == [expected] * 3
    assert value == (0 if problem is NUMBER else 1)


@pytest.mark.parametrize("answer", ["2.0,-0.1,0.0", "-1.5,3.25", "2.5,0.5,0.1"])
def test_scores_that_are_no_probabilities_are_no_classes(judged, answer):
    with pytest.raises(
        DataError, match="it is not clear which cell of the output is the prediction"
    ):
        judged([answer] * 3, ["0"] * 3, MANY)


def test_an_object_without_a_known_key_is_not_guessed(judged):
    answer = json.dumps({"text": "a", "tokens": 5})
    with pytest.raises(DataError, match="is not clear"):
        judged([answer] * 3, ["a"] * 3, MANY, out=Encoding.JSON)


def test_classes_that_have_nothing_in_common_are_said(judged):
    _, gathered = judged(["Cat", "DOG"], ["cat", "dog"], MANY)
    told = "rows, in which no prediction ('Cat', 'DOG') is the class of any label ('cat', 'dog')"
    assert gathered.unread.notices == {told: 2}


def test_a_probability_of_32_bits(judged):
    value, gathered = judged(["1.0000001", "-1e-8"], ["1", "0"])
    assert (value, gathered.probabilities) == (1, [1.0, 0.0])


def test_classes_beside_probabilities(judged):
    """Rows with and without a probability: the curves are left out, and nothing fails."""
    assert judged(["true", "0.2", "0.9"], ["1", "0", "1"])[0] == 1


@pytest.mark.parametrize(
    "label",
    [
        {"groundTruthData": {"data": "1"}, "eventMetadata": {"eventId": "event-0"}},
        {"groundTruthData": {"data": 1}, "eventMetadata": {"inferenceId": "event-0"}},
    ],
)
def test_ground_truth_with_less(judged, label):
    assert judged(["0.9"], [label])[1].labels == [1]


@pytest.mark.parametrize("threshold", [7, -0.1, float("nan")])
def test_a_threshold_that_is_none(judged, threshold):
    with pytest.raises(RequestError, match="threshold of the probability"):
        judged(["0.9"], ["1"], threshold=threshold)


def table(folder, rows):
    (folder / "x.csv").write_text(csv_text([["label", "guess"], *rows]))
    wanted = Attributes(problem=BINARY, label="label", prediction="guess")
    gathered = model_quality._gather(PLACES, Input(place=str(folder / "x.csv")), wanted)
    return gathered, lambda: predictions.arrays(gathered, wanted)


def test_rows_of_a_table_whose_label_comes_later(tmp_path):
    gathered, predictions = table(tmp_path, [[1, 1], *[["", 0]] * 5])
    assert (len(predictions()), gathered.unlabelled, gathered.unread.count) == (1, 5, 0)


def test_a_table_without_any_label_yet(tmp_path):
    _, predictions = table(tmp_path, [["", 0]] * 5)
    with pytest.raises(EmptyError, match="none of 5 predictions has a label"):
        predictions()


@pytest.mark.parametrize("indent", [1, 2, 4, "\t"])
@pytest.mark.parametrize("is_list", [True, False])
def test_records_over_several_lines(tmp_path, indent, is_list):
    """As notebooks print captured data and labels; a record that is cut off costs itself."""

    def text(documents):
        if is_list:
            return json.dumps(documents, indent=indent)
        return "\n".join(json.dumps(each, indent=indent) for each in documents)

    lines = [json.loads(record("1", "0.9", number=n)) for n in range(5)]
    truths = [json.loads(GroundTruth(f"event-{n}", "1").to_line()) for n in range(5)]
    (tmp_path / "live.jsonl").write_text(text(lines) + '\n{\n"captureData": {')
    (tmp_path / "truth.json").write_text(text(truths))
    wanted = Attributes(problem=BINARY, labels=str(tmp_path / "truth.json"))
    gathered = model_quality._gather(PLACES, Input(place=str(tmp_path / "live.jsonl")), wanted)
    assert (gathered.labels, gathered.unread.count) == ([1] * 5, 1)
