"""Amazon S3: its REST interface; the objects are files of `store/`."""
