"""Search: resources of any kind that satisfy an expression, and the names of their properties."""
