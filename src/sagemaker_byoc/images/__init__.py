"""What is done to an image from outside: check and push. Standard library and a docker client."""
