"""How one container of the contract is run: by Docker, or as a process of this machine."""
