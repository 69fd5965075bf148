"""Model quality: predictions against labels."""
