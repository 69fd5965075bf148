"""Building: from a folder with a Dockerfile to an image with a name that says what is in it."""
