"""The rules, under AWS's names, with AWS's parameters and defaults; each works on plain numbers."""
