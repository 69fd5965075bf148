"""The object store: buckets are folders, objects are files."""
