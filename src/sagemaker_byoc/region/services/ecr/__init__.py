"""Amazon ECR: its API, and the OCI registry for `docker push` and `docker pull`."""
