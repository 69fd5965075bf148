"""What every host-side room needs: the docker client, image names, ports, ignore files. Never in an image."""
