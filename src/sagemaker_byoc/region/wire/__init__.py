"""The AWS protocols: JSON 1.1, REST, query, event stream → typed operations and back."""
