"""A model worker: one process a slot, the only place that runs torch and the user's code."""
