"""The `byoc` command: words, progress, exit codes."""
