"""What a training script may import: small pieces that work alone, in a job and outside one."""
