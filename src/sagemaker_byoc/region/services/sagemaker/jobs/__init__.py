"""What every job of SageMaker shares: its context, its inputs and outputs in S3, its log."""
