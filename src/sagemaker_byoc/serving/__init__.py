"""The serving image: supervisor, front (never torch) and model workers.

entry → supervisor → front (gunicorn, Flask, broker) and one worker a slot (torch, the user's code).
"""
