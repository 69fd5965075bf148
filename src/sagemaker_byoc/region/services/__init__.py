"""One folder per AWS service, by AWS's name."""
