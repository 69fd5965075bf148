"""`train --check`."""
