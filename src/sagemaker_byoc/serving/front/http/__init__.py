"""Requests and replies of the front."""
