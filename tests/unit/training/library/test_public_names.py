"""What `from sagemaker_byoc.training import …` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sagemaker_byoc.training


@pytest.mark.parametrize("name", sagemaker_byoc.training.__all__)
def test_every_name_is_there(name):
    """Each name of `__all__` is found where the table says."""
    assert getattr(sagemaker_byoc.training, name).__name__ == name


def test_unknown_name_is_an_attribute_error():
    """As in any module."""
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = sagemaker_byoc.training.Trainer


def test_the_package_itself_costs_nothing():
    """The supervisor imports the package, and must not pay for torch or numpy."""
    program = (
        "import sys, sagemaker_byoc.training, sagemaker_byoc.training.entry\n"
        "sys.exit(bool({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
