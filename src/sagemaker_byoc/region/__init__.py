"""A SageMaker region on this machine: AWS's protocols on one port."""
