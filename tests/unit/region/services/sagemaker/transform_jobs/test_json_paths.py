"""The subset of JSONPath, by the table and the examples of the developer guide."""

from __future__ import annotations

import pytest

from sagemaker_byoc.region.services.sagemaker.transform_jobs.json_paths import (
    JsonPathError,
    parse,
)

RECORD = {
    "id": {"a": 1, "b": [2, 3]},
    "features": [10, 11, 12, 13, 14, 15],
    "SageMakerOutput": {"label": 1},
    "odd name": True,
}
ROW = [b"0", b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", RECORD),
        ("$.id", {"a": 1, "b": [2, 3]}),
        ("$.id.*", [1, [2, 3]]),
        ("$.id[*]", [1, [2, 3]]),
        ("$.features[1]", 11),
        ("$.features[-1]", 15),
        ("$.features[1,3,5]", [11, 13, 15]),
        ("$.features[2:5]", [12, 13, 14, 15]),
        ("$.features[:5]", [10, 11, 12, 13, 14, 15]),
        ("$.features[2:]", [12, 13, 14, 15]),
        ("$.features[:]", [10, 11, 12, 13, 14, 15]),
        ("$.features[-2:]", [14, 15]),
        ("$.features[-3:-2]", [13, 14]),
        ("$['features']", [10, 11, 12, 13, 14, 15]),
        (
            "$['features','SageMakerOutput']",
            {k: RECORD[k] for k in ("features", "SageMakerOutput")},
        ),
        ("$.id.['a','b']", {"a": 1, "b": [2, 3]}),
        ("$['odd name']", True),
        ('$["id"].a', 1),
        ("$['id','id'][*]", [[1, [2, 3]], [1, [2, 3]]]),
    ],
)
def test_values(path, found):
    assert parse(path).select(RECORD) == found


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("$", "012345"),
        ("$[1]", "1"),
        ("$[1,3,5]", "135"),
        ("$[0,-1]", "05"),
        ("$[2:5]", "2345"),
        ("$[1:4]", "1234"),  # "specifies the second through fifth columns"
        ("$[:5]", "012345"),  # "from the first column through the sixth column"
        ("$[5:]", "5"),
        ("$[*]", "012345"),
        ("$.*", "012345"),
        ("$[0:-1]", "012345"),
        ("$[0:-2]", "01234"),
        ("$[3:1]", ""),
    ],
)
def test_columns(path, columns):
    found = parse(path)
    assert found.is_of_columns
    assert b"".join(found.columns(ROW)).decode() == columns


@pytest.mark.parametrize("path", ["$.id", "$['id']", "$[0][1]", "$.id[0]"])
def test_paths_that_are_not_for_columns(path):
    assert not parse(path).is_of_columns


@pytest.mark.parametrize(
    "path",
    [
        "",
        "id",
        "@.id",
        "$..id",
        "$.",
        "$[",
        "$[]",
        "$[?(@.a)]",
        "$[a]",
        "$['a]",
        "$ .a",
        "$[1:2:3]",
        "$.a b",
        "$[1.5]",
        "$['a','b.c'",
        "$.length()",
        "$$",
        "$[99999999999]",
    ],
)
def test_paths_that_are_not_of_the_subset(path):
    with pytest.raises(JsonPathError, match="Invalid JsonPath"):
        parse(path)


def test_a_range_beside_another_index():
    """SageMaker's words, as in aws/sagemaker-python-sdk#1112."""
    with pytest.raises(JsonPathError) as caught:
        parse("$[0:2,246:]")
    assert str(caught.value) == (
        "Invalid JsonPath: $[0:2,246:]: only single range filters of format (eg: [1:5]) are "
        "supported. Format [0:2,246:] is not supported"
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("$.other", "no attribute 'other', but id, features"),
        ("$['id','other']", "no attribute 'other'"),
        ("$.features.a", "no attribute 'a' in an array"),
        ("$.id[0]", "an index needs an array, not an object"),
        ("$.features[6]", "index 6 is outside of the 6"),
        ("$.features[-7]", "index -7 is outside of the 6"),
        ("$.features[6:]", "index 6 is outside of the 6"),
        ("$.features[0:6]", "index 6 is outside of the 6"),
        ("$.features[0].x", "no attribute 'x' in a number"),
        ("$['odd name'].x", "no attribute 'x' in a boolean"),
    ],
)
def test_what_a_record_lacks(path, words):
    with pytest.raises(JsonPathError, match=r".*") as caught:
        parse(path).select(RECORD)
    assert words in str(caught.value)


@pytest.mark.parametrize("path", ["$[6]", "$[0,6]", "$[-7:]", "$[0:6]"])
def test_columns_that_a_row_lacks(path):
    with pytest.raises(JsonPathError, match="outside of the 6"):
        parse(path).columns(ROW)
