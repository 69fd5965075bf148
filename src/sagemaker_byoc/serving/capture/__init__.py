"""Captured traffic, written by the serving container itself. No torch, no numpy, no AWS."""
