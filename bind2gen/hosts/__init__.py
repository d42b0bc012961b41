"""Hosts: what takes conditioning vectors and gives pictures or boxes. They know nothing of modalities."""
