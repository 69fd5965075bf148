"""From a request to the containers that run it: images, instances, access, health."""
