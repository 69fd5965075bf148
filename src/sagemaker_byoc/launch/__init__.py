"""A job or an endpoint from a table of settings: as a plan of AWS calls, or as manifests."""
