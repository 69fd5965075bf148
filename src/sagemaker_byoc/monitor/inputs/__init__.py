"""Reading inputs: captured traffic, tables, documents."""
