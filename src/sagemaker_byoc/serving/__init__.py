"""The serving image: supervisor, front (without torch) and model workers.

serve → supervisor → front (gunicorn, Flask, broker) and one worker per slot (torch, the user's
code).
"""
