"""Puts a secret into its exception's message."""

import os

raise RuntimeError(f"login failed with {os.environ['SM_HP_API_KEY']}")
