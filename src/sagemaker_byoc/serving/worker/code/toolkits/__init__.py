"""Stand-ins for packages of AWS that handlers import, for images that lack them."""
