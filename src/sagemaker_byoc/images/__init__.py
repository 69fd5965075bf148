"""What is done to an image from outside: check, build, push. Standard library and a docker client."""
