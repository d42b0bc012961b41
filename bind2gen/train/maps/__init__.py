"""Closed-form maps: ``gap`` (a modality's embeddings to images), ``class_map`` (the encoder's space to a detector's
class vectors) with ``recipe`` (TOML), both by ``linear``."""
