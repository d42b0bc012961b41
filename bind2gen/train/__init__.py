"""Training: the paper's recipe for the towers, and the unCLIP host of the bundled model.

With data of one's own: ``python -m bind2gen.train RECIPE`` (``run``): ``recipe`` (TOML), ``pairs`` and ``shards`` (csv
and tar), ``views`` (altered inputs), ``stream`` (batches by step), ``starting`` (frozen towers), ``align`` (one tower).
Shared: ``loop`` (a resumable training loop), ``contrastive`` (InfoNCE), ``augment``, ``curves``.
The bundled model: ``mini`` and what it imports: ``data``, ``pairings``, ``towers``, ``host``, ``autoencoder``.
"""
