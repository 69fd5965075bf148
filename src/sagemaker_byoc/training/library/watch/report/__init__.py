"""What the watch reports: findings, history, and the page."""
