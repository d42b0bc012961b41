"""YOLOv3-tiny (arXiv 1804.02767) whose classes are vectors, as Detic's are: small, quick, without masks.

Behaviour follows pjreddie/darknet, of which no code is used; boxes and objectness are its published weights'.
"""

from .detector import YoloDetector
from .network import YoloConfig, YoloModel

__all__ = ["YoloConfig", "YoloDetector", "YoloModel"]
