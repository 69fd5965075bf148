"""One training job or one endpoint on this machine, without a region."""
