"""One module per command of `byoc`, imported when the command is wanted."""
