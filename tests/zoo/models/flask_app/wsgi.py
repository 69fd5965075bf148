"""As gunicorn would be pointed at it."""

from predictor import app

application = app
