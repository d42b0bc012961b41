"""Detic (arXiv 2201.02605) in plain PyTorch: an open-vocabulary detector with masks whose classes are vectors.

Behaviour follows facebookresearch/Detic, xingyizhou/CenterNet2 and facebookresearch/detectron2 (Apache-2.0) and the
Swin Transformer's detection code (MIT); the parameter names are those of the released checkpoints. None of those
packages is needed.
"""

from .config import CONVNEXT_T, RESNET18, RESNET50, SWIN_B, VARIANTS, DeticConfig
from .detector import DeticDetector
from .model import DeticModel, EncodedImage

__all__ = [
    "CONVNEXT_T",
    "RESNET18",
    "RESNET50",
    "SWIN_B",
    "VARIANTS",
    "DeticConfig",
    "DeticDetector",
    "DeticModel",
    "EncodedImage",
]
