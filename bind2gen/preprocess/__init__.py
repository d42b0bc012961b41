"""Raw inputs to tensors, one module a modality: ``load`` reads, ``transform`` makes model input, settings are data.

Nothing here knows a model or a host. ``bind2gen.ImageBindProcessor`` joins the modalities.
"""
