"""Generators and their slots. What the command line checks before anything is loaded stands here."""

IP_ADAPTER_FILE = "ip_adapter.safetensors"  # beside the folders of a saved pipeline
FIRST_FRAME = "a first frame"  # what a host of films needs
NOT_GUIDED = "{}: nothing is guided away from where {} is 1 or less"
