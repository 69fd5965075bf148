"""The notebook prints what is stored in it."""

import re

import pytest
from tests.region import notebooks

NOTEBOOK = notebooks.EXAMPLES / "walkthrough/walkthrough.ipynb"


@pytest.mark.slow
def test_the_notebook_prints_what_it_shows():
    outputs = notebooks.run(NOTEBOOK, seconds=300)
    for printed, shown in outputs:
        assert _without_accuracy(printed) == _without_accuracy(shown)
    (accuracy,) = re.findall(r"(\d+)% right", "".join(each.printed for each in outputs))
    assert int(accuracy) >= 95


def _without_accuracy(text):
    """The last percent depends on how this processor rounds."""
    return re.sub(r"\d+% right", "N% right", text)
