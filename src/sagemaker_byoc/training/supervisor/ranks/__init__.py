"""Programs of several ranks and hosts."""
