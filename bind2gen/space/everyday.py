"""Words for what people hear and see, where an encoder brings none of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .vocabulary import Vocabulary

NAMES_FILE = "names.npz"  # beside an encoder: names of things, with its embeddings of them
# Things that sound, and things that are seen.
EVERYDAY_WORDS = (
    "dog", "cat", "bird", "rooster", "frog", "cow", "sheep", "pig", "insect", "sea", "rain", "fire", "train", "car",
    "police van", "keyboard", "clock", "helicopter", "airplane", "drone", "horse", "duck", "goose", "crow", "owl",
    "parrot", "wolf", "lion", "elephant", "monkey", "bee", "cricket", "snake", "whale", "crowd", "baby",
    "child laughing", "singer", "choir", "applause", "footsteps", "snoring", "cough", "piano", "guitar", "violin",
    "drum", "trumpet", "flute", "accordion", "organ", "church bell", "alarm clock", "telephone", "typewriter",
    "printer", "camera", "door", "doorbell", "kettle", "frying pan", "dishwasher", "washing machine", "vacuum cleaner",
    "hair dryer", "toilet", "shower", "tap", "river", "waterfall", "fountain", "swimming pool", "thunderstorm", "wind",
    "snow", "forest", "mountain", "desert", "beach", "sunset", "night sky", "street", "traffic", "motorcycle",
    "bicycle", "bus", "truck", "tractor", "fire engine", "ambulance", "boat", "sailing ship", "steam engine", "tram",
    "rocket", "fireworks", "gun", "explosion", "chainsaw", "hammer", "drill", "lawn mower", "sewing machine", "factory",
    "kitchen", "living room", "bedroom", "office", "classroom", "restaurant", "market", "church", "castle", "bridge",
    "skyscraper", "garden", "flower", "tree", "football match", "tennis match", "bowling alley", "playground",
    "person walking", "person running", "person sitting", "computer", "book", "bottle", "glass", "candle", "ice cream",
    "pizza", "fruit",
)  # fmt: skip


def words_of(encoder: Path) -> Sequence[str] | Vocabulary:
    """The names that lie in an encoder's folder with its embeddings of them, else :data:`EVERYDAY_WORDS`."""
    return Vocabulary.from_file(encoder / NAMES_FILE) if (encoder / NAMES_FILE).is_file() else EVERYDAY_WORDS
