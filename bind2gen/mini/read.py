"""Stage ``read``: a text tower that begins with a table of words and learns e5's vectors of phrases."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ..files.atomic import written_whole
from ..imagebind.config import ImageBindConfig, TowerConfig
from ..imagebind.model import ImageBindModel
from ..preprocess import text
from ..preprocess.words import FIRST, split_words
from ..train.contrastive import info_nce
from ..train.loop import LoopConfig, train, weights_of
from .evaluate.verdicts import auroc
from .figures import keep, mean_cosine
from .recipe import CONTEXT, EMBED_DIM, TEMPLATES
from .starts import begin_as_mean
from .teachers import E5
from .texts import Texts, captions, is_held_out

SPECIAL_IDS = FIRST + 2  # nothing, unknown, end
WORDS_FILE, SPACE_FILE = "words.txt.gz", "space.safetensors"
SPOKEN = (*TEMPLATES, "the sound of a {}", "a recording of a {}", "a {} can be heard")  # all mean the name alone
SHORT, LONG, NOTHING = 0.5, 0.4, 0.1  # shares of a batch: names and words, phrases, words that are none
FORGOTTEN = 0.1  # share of phrases in which a word is made unknown
CONTRAST, SHARPNESS = 0.1, 20.0  # weight of telling a batch's texts apart, and its 1/temperature
EMPTY = {word for words in (*SPOKEN, "an in on at and with to is are it by") for word in split_words(words)}
SAME = 0.98  # cosine from which two texts mean the same
WANTED = {
    "names_first": 0.99,
    "names_first_never_trained": 0.99,
    "captions_cosine": 0.93,
    "composed_cosine": 0.93,
    "made_up_auroc": 0.95,
}


def text_tower(words: int) -> TowerConfig:
    """The text tower for a table of so many words."""
    return TowerConfig(
        EMBED_DIM, 2, 4, "tokens", (CONTEXT,), vocab_size=words + SPECIAL_IDS, stem_norm=False, bias_kv=False,
        causal=True, logit_scale=1 / 0.07, learned_logit_scale=True,
    )  # fmt: skip


@dataclass(frozen=True)
class Space:
    """The joint space: e5's main directions around the mean of ImageNet's names, and one more for "nothing said".

    Attributes:
        mean: (384,) of e5's vectors.
        basis: (384, D - 1) orthonormal columns.
    """

    mean: torch.Tensor
    basis: torch.Tensor

    @classmethod
    def fitted(cls, around: torch.Tensor, vectors: torch.Tensor, width: int = EMBED_DIM) -> Space:
        mean = around.mean(0)
        centred = F.normalize(vectors - mean, dim=-1)
        _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
        return cls(mean, directions.flip(1)[:, : width - 1].contiguous())

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """(N, 384) of e5 -> (N, D) unit norm."""
        return F.pad(F.normalize((vectors - self.mean) @ self.basis, dim=-1), (0, 1))

    def kept(self, vectors: torch.Tensor) -> float:
        """Mean cosine between the centred vectors and what of them the space holds."""
        centred = F.normalize(vectors - self.mean, dim=-1)
        return (centred @ self.basis).norm(dim=-1).mean().item()

    @property
    def nothing(self) -> torch.Tensor:
        """(D,) what "" and unknown words mean."""
        return F.one_hot(torch.tensor(self.basis.shape[1]), self.basis.shape[1] + 1).float()


class Reading:
    """What is read in training and what is judged on: texts with their places in the joint space.

    Args:
        texts: names, words and phrases.
        e5: the teacher.
        folder: where the table of words and the space are kept.
    """

    def __init__(self, texts: Texts, e5: E5, folder: Path) -> None:
        self.texts, self.folder, self.words = texts, folder, texts.words
        of_words, of_names, of_phrases = e5(self.words), e5(texts.names), e5(texts.sentences)
        self.space = Space.fitted(e5(texts.imagenet), torch.cat([of_names, of_words, of_phrases]))
        self.row_vectors, self.name_vectors = self.space(of_words), self.space(of_names)
        self.short, self.short_vectors = self._taught([*texts.names, *self.words], torch.cat([of_names, of_words]))
        self.long, self.long_vectors = self._taught(texts.sentences, of_phrases)
        self.likely = self._likelihood()
        composed = set(texts.composed)
        kept_back = [t for t in texts.sentences if is_held_out(t)]
        judged = {
            "captions": captions(),
            "composed": [t for t in kept_back if t in composed],
            "defined": [t for t in kept_back if t not in composed],
        }
        self.judged = {name: (part, self.space(e5(part))) for name, part in judged.items()}
        with written_whole(folder / WORDS_FILE) as path:
            path.write_bytes(gzip.compress(("\n".join(self.words) + "\n").encode(), mtime=0))
        with written_whole(folder / SPACE_FILE) as path:
            save_file({"mean": self.space.mean, "basis": self.space.basis}, path)
        self.tokenize = text.tokenizer(text_settings(folder))
        self.none = texts.made_up(200, seed=0)

    def _taught(self, texts: list[str], vectors: torch.Tensor) -> tuple[list[str], torch.Tensor]:
        """The texts that are trained, each once, and their places. Single words all are: they are the table."""
        rows = {t: i for i, t in enumerate(texts) if not (" " in t and is_held_out(t))}
        return list(rows), self.space(vectors[list(rows.values())])

    def _likelihood(self) -> np.ndarray:
        """How often each short text is drawn: half of the time a name, else a word, common ones more often."""
        named = np.isin(self.short, self.texts.names)
        rare = np.where(named, 1e-9, 1 / np.sqrt(1 + np.arange(len(self.short))))
        return 0.5 * named / named.sum() + 0.5 * rare / rare.sum()

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, 1, context) token ids."""
        return self.tokenize(list(texts), CONTEXT)[:, None]

    def begun(self) -> ImageBindModel:
        """The untrained model: its table holds the teacher's vectors of the words, its trunk takes their mean."""
        torch.manual_seed(0)
        model = ImageBindModel(ImageBindConfig(EMBED_DIM, {"text": text_tower(len(self.words))}))
        begin_as_mean(model.towers["text"])
        table = model.towers["text"].stem.token_embedding.weight
        with torch.no_grad():
            # As large as what blocks add in their first steps, which would drown rows of unit length.
            table[FIRST : FIRST + len(self.words)] = self.row_vectors * EMBED_DIM**0.5
            table[self.tokenize.unknown] = table[self.tokenize.end] = self.space.nothing
            table[[self.tokenize.ids[word] for word in EMPTY if word in self.tokenize.ids]] = 0
        return model

    def batch(self, count: int, rng: np.random.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Ids and wanted embeddings: of short texts with those that say nothing, and of phrases."""

        def spoken(names: list[str]) -> list[str]:
            return [SPOKEN[rng.integers(len(SPOKEN))].format(name) for name in names]

        chosen = rng.choice(len(self.short), round(count * SHORT), p=self.likely)
        none = ["", *rng.choice(self.none, round(count * NOTHING))]
        wanted = torch.cat([self.short_vectors[chosen], self.space.nothing.expand(len(none), -1)])
        short = self.ids(spoken([self.short[i] for i in chosen] + none)), wanted
        chosen = rng.integers(len(self.long), size=round(count * LONG))
        ids = self.ids([self.long[i] for i in chosen])
        for row in np.flatnonzero(rng.random(len(ids)) < FORGOTTEN):
            ids[row, 0, rng.integers(int(ids[row, 0].argmax()))] = self.tokenize.unknown
        return [short, (ids, self.long_vectors[chosen])]

    def loss(self, model: ImageBindModel, count: int, rng: np.random.Generator) -> torch.Tensor:
        """Distance to the wanted embeddings, and telling them apart within the batch."""
        parts = [(model.encode("text", ids.to(model.device)), wanted) for ids, wanted in self.batch(count, rng)]
        found, wanted = (torch.cat(sides) for sides in ([f for f, _ in parts], [w.to(model.device) for _, w in parts]))
        same = wanted @ wanted.T > SAME
        return (1 - (found * wanted).sum(1)).mean() + CONTRAST * info_nce(found, wanted, SHARPNESS, same)

    # ---- judging ----

    def embed(self, model: ImageBindModel, texts: Sequence[str]) -> torch.Tensor:
        return model.encode("text", self.ids(texts).to(model.device), batch_size=512).float().cpu()

    def figures(self, model: ImageBindModel) -> dict[str, float]:
        """Every figure of :data:`WANTED`, and what they are made of."""
        names = self.texts.names
        found = self.embed(model, [f"a {name}" for name in names])
        first = (found @ self.name_vectors.T).argmax(1).numpy() == np.arange(len(names))
        unseen = ~np.isin(names, self.short)
        figures = {"names": len(names), "names_first": first.mean()}
        figures |= {"names_cosine": mean_cosine(found, self.name_vectors)}
        figures |= {"names_never_trained": unseen.sum(), "names_first_never_trained": first[unseen].mean()}
        for name, (part, wanted) in self.judged.items():
            figures |= {f"{name}": len(part), f"{name}_cosine": mean_cosine(self.embed(model, part), wanted)}
        figures["made_up_auroc"] = self.unknown(model)
        return figures

    def unknown(self, model: ImageBindModel) -> float:
        """AUROC of "means nothing" between made-up words and those of captions and of the common ones."""
        nothing = self.embed(model, [""])[0]
        made_up = self.embed(model, self.texts.made_up(1000, seed=1))
        spoken = sorted({word for caption in captions() for word in split_words(caption)})
        known = self.embed(model, [*spoken, *self.texts.common[500:1500]])
        return auroc((made_up @ nothing).numpy(), (known @ nothing).numpy())


def text_settings(folder: Path) -> text.TextSettings:
    """How texts are read by the tower that stage ``read`` left in its folder."""
    return text.TextSettings(context_length=CONTEXT, vocabulary=str(folder / WORDS_FILE), units="words")


def run_read(texts: Texts, folder: Path, config: LoopConfig) -> None:
    """Train the text tower, and write its figures before and after."""
    folder.mkdir(parents=True, exist_ok=True)
    reading = Reading(texts, E5(texts.teachers, folder / "e5.npz"), folder)
    model = reading.begun()
    keep(folder, "before", reading.figures, model, WANTED)

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        return reading.loss(model, config.batch_size, rng), {}

    keep(folder, "after", reading.figures, train(model, step_loss, config, folder), WANTED)


def read_model(folder: Path) -> ImageBindModel:
    """The text tower of a finished stage ``read``."""
    state = weights_of(folder)
    words = len(state["towers.text.stem.token_embedding.weight"]) - SPECIAL_IDS
    model = ImageBindModel(ImageBindConfig(EMBED_DIM, {"text": text_tower(words)}))
    model.load_state_dict(state)
    return model.eval()
