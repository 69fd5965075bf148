"""What only a running container shows. Each trial returns observations; the rules judge them."""
