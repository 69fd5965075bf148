"""What every host-side package needs: docker, image names, ports, ignore files."""
