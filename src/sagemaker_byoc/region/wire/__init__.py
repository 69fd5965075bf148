"""AWS's protocols: HTTP, JSON 1.1, query and REST, signatures, validation by the service models."""
