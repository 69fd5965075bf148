"""Baseline and drift on captured traffic, in the files of SageMaker Model Monitor. numpy only."""
