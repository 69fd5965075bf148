"""What is done to an image from outside: build, check and push, with a docker client."""
