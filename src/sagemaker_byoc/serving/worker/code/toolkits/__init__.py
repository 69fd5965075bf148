"""Packages of AWS's that handlers import, for images that lack them."""
