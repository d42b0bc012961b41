"""Training: the paper's recipe for the towers, and maps in closed form.

With data of one's own: ``bind2gen train RECIPE`` (``run``): ``recipe_files`` and ``recipe`` (TOML), ``pairs`` and
``shards`` (csv and tar), ``views`` (altered inputs), ``stream`` (batches by step), ``starting`` (frozen towers),
``align`` (one tower); ``bind2gen fit-gap`` and ``fit-class-map`` (``maps``).
Shared: ``loop`` (a resumable training loop), ``contrastive`` (InfoNCE), ``augment``, ``curves``.
"""
