"""A model worker: one process per slot, the only place that runs torch and the user's code."""
