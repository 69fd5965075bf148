"""Endpoints: a serving container and the way to it."""
