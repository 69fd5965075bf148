"""The SageMaker side on your own machine: lays out the tree, runs the container, collects."""
