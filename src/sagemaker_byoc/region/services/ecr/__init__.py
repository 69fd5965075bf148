"""ECR in front of an OCI registry: what `docker push` and `docker pull` talk to."""
