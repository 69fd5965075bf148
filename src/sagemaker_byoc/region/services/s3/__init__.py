"""The object store: buckets and objects as files, and S3's requests on top of it."""
