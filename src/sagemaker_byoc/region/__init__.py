"""A SageMaker region on this machine: AWS's protocols on one port, jobs and endpoints in containers."""
