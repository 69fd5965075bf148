"""Several models or adapters behind one front."""
