"""The notebook prints what is stored in it: a drift that is found, and none where there is none."""

import re

import pytest
from tests.region import notebooks

NOTEBOOK = notebooks.EXAMPLES / "drift/drift.ipynb"
OF_THE_MODEL = ("% right", '"probability"', "is below the threshold", "standard errors")


@pytest.mark.slow
def test_the_notebook_prints_what_it_shows():
    outputs = notebooks.run(NOTEBOOK, seconds=300)
    for printed, shown in outputs:
        assert _without_the_model(printed) == _without_the_model(shown)
    text = "".join(each.printed for each in outputs)
    before, after = map(int, re.findall(r"(\d+)% right", text))
    assert before >= 95
    assert after <= 30
    runs = re.findall(r"360 rows against a baseline of 1,437: (.*)", text)
    assert runs == ["no violation in 64 columns", "violations: 48"]
    assert re.findall(r"exit code (\d)", text) == ["0", "1"]
    assert "360 predictions with a label, 360 without: violations: 6" in text


def _without_the_model(text):
    """Its figures depend on how this processor rounds; those of the data do not."""
    return "\n".join(
        re.sub(r"\d+(\.\d+)?(e-\d+)?", "N", line)
        if any(words in line for words in OF_THE_MODEL)
        else line
        for line in text.splitlines()
    )
