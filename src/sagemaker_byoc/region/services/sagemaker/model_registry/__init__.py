"""Model registry: groups of model packages, their versions, and the models made from them."""
