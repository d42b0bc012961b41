"""Evaluation: an independent judge of pictures, and the scores of a trained stack on held-out data."""
