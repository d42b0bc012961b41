"""Training: the paper's recipe for the towers.

With data of one's own: ``bind2gen train RECIPE`` (``run``): ``recipe_files`` and ``recipe`` (TOML), ``pairs`` and
``shards`` (csv and tar), ``views`` (altered inputs), ``stream`` (batches by step), ``starting`` (frozen towers),
``align`` (one tower).
Shared: ``loop`` (a resumable training loop), ``contrastive`` (InfoNCE), ``augment``, ``curves``.
The bundled model (``bind2gen.mini``): ``data``, ``pairings``, ``towers``, ``typical``, ``mosaics``, ``detector``.
"""
