"""The commands of `byoc`, a module per command or subject, imported when a command is used."""
