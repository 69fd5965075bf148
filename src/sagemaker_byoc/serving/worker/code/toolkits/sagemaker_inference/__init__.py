"""Stands in for the package sagemaker-inference, whose names handlers import.

It is found only if that package isn't installed, which would bring boto3, scipy and psutil along.
Here is what handlers use; what starts and runs AWS's own server is not.
"""
