"""The rules, each a small function over parsed data; docs/reference/findings.md is made of them."""
