"""Where an image is read from: an engine, an archive, a registry."""
