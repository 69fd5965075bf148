"""The supervisor (PID 1) of a serving container."""
