"""Generators and their slots. What the command line checks before anything is loaded stands here."""

IP_ADAPTER_FILE = "ip_adapter.safetensors"  # beside the folders of a saved pipeline
FIRST_FRAME = "a first frame"  # what a host of films needs
NOT_GUIDED = "{}: nothing is guided away from where {} is 1 or less"
FAST_STEPS = 6  # of few_steps; tests/bench/RESULTS.md says what fewer and more are worth
