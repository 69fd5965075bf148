"""Captured traffic, written by the serving container. No torch, no numpy, no AWS."""
