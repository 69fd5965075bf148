"""A watch for one test."""

from __future__ import annotations

import pytest

from sagemaker_byoc.training.library.watch.attach import watch


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Makes a watch, and ends it whatever happens."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "ml"))
    made = []

    def make(model=None, **settings):
        made.append(watch(model, folder=tmp_path / "watch", **{"save_interval": 1, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.close()
