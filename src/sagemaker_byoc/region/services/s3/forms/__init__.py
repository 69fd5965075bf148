"""Browser-based uploads with POST."""
