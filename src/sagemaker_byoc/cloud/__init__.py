"""The real AWS: the only room that imports boto3, and only once something is asked of AWS."""
