"""What a trial asks of an image; tests/images runs the trials themselves."""

from __future__ import annotations

import pytest

from sagemaker_byoc.images.trials.training import Job, TrainingPlan, seconds_for_two


@pytest.mark.parametrize(("alone", "seconds"), [(2.0, 120.0), (110.0, 330.0)])
def test_two_hosts_share_the_machine(alone, seconds):
    """A job that nearly used up its time alone is not taken for one that hangs on two hosts."""
    assert seconds_for_two(TrainingPlan(image="any"), Job(seconds=alone)) == seconds
