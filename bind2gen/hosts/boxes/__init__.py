"""Detectors and what they find. What the command line checks before anything is loaded stands here."""

PICKLES = (".pth", ".pt", ".pkl")  # released Detic checkpoints
GRID = "grid"  # windows over the whole picture, for rescoring without any detector
