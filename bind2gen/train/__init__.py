"""Training: the paper's recipe for the towers, and the unCLIP host of the bundled model.

Modules: ``loop`` (a resumable training loop), ``data`` (folder-plus-csv and tar data),
``contrastive`` (InfoNCE stages), ``host`` (autoencoder and UNet), ``mini`` (the bundled model's recipe).
"""
