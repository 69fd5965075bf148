"""Shared by all host-side packages: docker, images of registries, ports, ignore files."""
