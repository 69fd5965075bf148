"""Containers with or without a region: images, specifications, hosts of a job, health, results."""
