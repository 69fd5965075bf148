"""The HTTP server: gunicorn's ASGI worker and its parsers."""
