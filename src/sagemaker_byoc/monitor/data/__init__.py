"""Data quality: statistics, constraints, drift."""
