"""Raises three calls deep."""


def step(batch):
    raise ValueError(f"loss is not finite in batch {batch}")


def main():
    step(7)


main()
