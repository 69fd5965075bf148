"""How one container of the contract is run: `docker`, or `process` where there is no engine."""
