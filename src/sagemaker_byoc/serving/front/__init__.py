"""The HTTP process: gunicorn, the routes, and the broker behind them. Never torch or numpy."""
