"""Finding items by their embeddings, whatever modality the query is of."""

from .index import EmbeddingIndex, Hits

__all__ = ["EmbeddingIndex", "Hits"]
