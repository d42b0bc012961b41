"""Stage ``hear``: an audio tower that begins with YAMNet and learns to meet the pictures and words of ``see``.

The network stays as it is; what is trained is the transformer behind it and the head, on its features of the sounds as
they are and altered, which are computed once. Sounds of what there are photos of are bound to those photos, as in the
paper, and all to their names. All are kept near the names that the teacher hears in the sound as it is, whatever was
done to it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..imagebind.config import ImageBindConfig, TowerConfig
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..preprocess import text
from ..train.contrastive import info_nce
from ..train.loop import LoopConfig, train
from ..train.mini_recipe import EMBED_DIM, JUDGED, TEMPLATES
from ..train.towers import balanced_weights, embed_names, rank_one
from .figures import keep
from .heard import FRAMES, MEL_BINS, Cached, Heard, audio_settings
from .pictures import Pictures, pictures_of
from .read import text_settings
from .see import MODEL, towers_of
from .sounds import load_sounds
from .teachers import YAMNET, YAMNET_ARGS, audioset_names, yamnet
from .texts import Texts, plain

SHARPNESS = 20.0  # 1/temperature in training, the paper's of sounds
TEACHER_TEMPERATURE = 2.0  # of its posteriors
# Names of the teacher's that say nothing of what it is that sounds; it hears them in nearly everything.
VAGUE = frozenset({
    "Animal", "Domestic animals, pets", "Livestock, farm animals, working animals", "Wild animals", "Vehicle",
    "Motor vehicle (road)", "Engine", "Inside, small room", "Inside, large room or hall", "Inside, public space",
    "Outside, urban or manmade", "Outside, rural or natural", "Silence", "Speech", "Music", "Musical instrument",
    "Sound effect", "Noise", "Environmental noise", "Static", "White noise",
})  # fmt: skip
PICTURED_FROM = 4  # photos of a kind, from which its sounds are bound to them
TOGETHER = 8  # photos of a kind, whose mean a sound is bound to
# Weights: of the photos; of the names; of staying near the names that the teacher hears, in sounds with photos and in
# those without; of being unlike all our concepts where it is none of them.
PICTURES, WORDS, OWN, OTHERS, NONE = 0.5, 1.0, 0.2, 0.5, 1.0
FAR = 0.1  # cosine with the words of our concepts, from which what is none of them is too like them
LOST = 0.05  # share of the sounds of our concepts that may be refused
WANTED = {
    "concepts_first": 0.86,
    "telephone_first": 0.76,
    "many_first": 0.76,
    "many_mean_class": 0.78,
    "labels_first": 0.50,
    "photo_first": 0.65,
    "none_refused": 0.70,
}


def audio_tower() -> TowerConfig:
    return TowerConfig(
        EMBED_DIM, 1, 4, "network", (1, MEL_BINS, FRAMES), network=YAMNET, network_args=YAMNET_ARGS, bias_kv=False,
        drop_path=0.1, head_dropout=0.1, logit_scale=SHARPNESS,
    )  # fmt: skip


class Binding:
    """Sounds that are to meet photos and words.

    Args:
        heard: the sounds.
        pictures: photos to bind to.
        words: a model with the text tower, frozen.
        tokenize: texts to ids.
        kinds: the names of the teacher's classes, in its order.
    """

    def __init__(
        self, heard: Heard, pictures: Pictures, words: ImageBindModel, tokenize: object, kinds: list[str]
    ) -> None:
        self.heard, self.pictures, self.sounds = heard, pictures, heard.sounds
        every = sorted({*self.sounds.labels, *self.sounds.concepts, *JUDGED} - {""})
        with torch.no_grad():
            self.vectors = dict(zip(every, embed_names(words, tokenize, every, TEMPLATES), strict=True))
            audioset = torch.stack([self._meant(words, tokenize, kind) for kind in kinds])
        self.audioset = audioset - audioset.mean(0)
        self.vague = torch.tensor([kind in VAGUE for kind in kinds])
        named = [name for name in every if name not in self.sounds.left_out_labels]
        self.named = torch.stack([self.vectors[name] for name in named])
        self.direction = self.directions(heard.logits)
        of = heard.sound_of
        labels, concepts = self.sounds.labels[of], self.sounds.concepts[of]
        seen_as = self._seen_as(labels, concepts)
        rows = np.flatnonzero(self.sounds.trained[of] & (labels != ""))
        self.pictured, self.worded = rows[seen_as[rows] != ""], rows[seen_as[rows] != labels[rows]]
        self.photos = {kind: pictures.of(kind) for kind in set(seen_as) - {""}}
        self.seen_as = seen_as
        groups = np.where(concepts == "", seen_as, concepts)
        self.group_of = torch.from_numpy(np.unique(groups, return_inverse=True)[1])
        places = {name: i for i, name in enumerate(named)}
        self.label_at = torch.tensor([places.get(label, -1) for label in labels])
        self.concept_at = torch.tensor([places.get(name, -1) for name in np.where(concepts == "", labels, concepts)])
        self.likely = balanced_weights(seen_as[self.pictured]), balanced_weights(labels[self.worded])

    def _meant(self, words: ImageBindModel, tokenize: object, kind: str) -> torch.Tensor:
        """(D,) of a class such as "Dishes, pots, and pans": the mean of its names."""
        names = [name for name in map(plain, kind.split(",")) if name]
        return F.normalize(embed_names(words, tokenize, names, TEMPLATES).mean(0), dim=-1)

    def _seen_as(self, labels: np.ndarray, concepts: np.ndarray) -> np.ndarray:
        """(M,) what photos show of each sound: its label, else its concept, else nothing."""
        shown = {kind for kind in {*labels, *concepts} - {""} if len(self.pictures.of(kind)) >= PICTURED_FROM}
        found = np.where(np.isin(labels, list(shown)), labels, concepts)
        return np.where(np.isin(found, list(shown)), found, "")

    def directions(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, 521) of the teacher -> (N, D): the names it hears, by how much it hears them."""
        heard = (logits / TEACHER_TEMPERATURE).masked_fill(self.vague, -torch.inf).softmax(1)
        return F.normalize(heard @ self.audioset, dim=-1)

    def loss(
        self, tower: torch.nn.Module, count: int, rng: np.random.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Of a batch of so many clips: half of them also bound to photos, half of kinds that have none of their own."""
        at, half = next(tower.parameters()).device, count // 2
        drawn = zip((self.pictured, self.worded), (half, count - half), self.likely, strict=True)
        rows = np.concatenate([rng.choice(some, number, p=p) for some, number, p in drawn])
        features = self.heard.features[rng.integers(len(self.heard.features))]
        found = tower(features[rows].float().to(at))
        photos = np.stack([rng.choice(self.photos[kind], TOGETHER) for kind in self.seen_as[rows[:half]]])
        shown = F.normalize(self.pictures.embeds[photos].mean(1), dim=-1)
        groups = self.group_of[rows[:half]].to(at)
        pictures = info_nce(found[:half], shown.to(at), SHARPNESS, groups[:, None] == groups[None])
        answers = SHARPNESS * found @ self.named.T.to(at)
        true = (part[rows].to(at) for part in (self.label_at, self.concept_at))
        words = sum(F.cross_entropy(answers, names) for names in true) / 2
        turned = 1 - (found * self.direction[rows].to(at)).sum(1)
        own, others = turned[:half].mean(), turned[half:].mean()
        none = torch.from_numpy(self.sounds.concepts[self.heard.sound_of[rows]] == "").to(at)
        like = (found[none] @ self._words(JUDGED).T.to(at) - FAR).relu().square().sum(1).mean()
        parts = {"pictures": pictures, "words": words, "own": own, "others": others, "none": like}
        loss = PICTURES * pictures + WORDS * words + OWN * own + OTHERS * others + NONE * like
        return loss, {name: part.item() for name, part in parts.items()}

    # ---- judging ----

    def embed(self, tower: torch.nn.Module) -> dict[str, torch.Tensor]:
        """(N, D) of every sound as it is, and of those through a telephone."""
        at = next(tower.parameters()).device
        found = {}
        for name, features in (("plain", self.heard.features[0]), ("telephone", self.heard.telephone)):
            found[name] = torch.cat([tower(part.float().to(at)).float().cpu() for part in features.split(128)])
        return found

    def figures(self, tower: torch.nn.Module) -> dict[str, float]:
        """Every figure of :data:`WANTED` and what it is made of, of the trained tower."""
        return self.judge(**self.embed(tower))

    def floor(self) -> dict[str, float]:
        """The same with nothing trained: the teacher's posteriors times the names."""
        return self.judge(self.direction, self.directions(self.heard.telephone_logits))

    def judge(self, plain: torch.Tensor, telephone: torch.Tensor) -> dict[str, float]:
        """Of embeddings of all clips, (M, D), and of those through a telephone."""
        sounds, names = self.sounds, np.array(JUDGED)
        embeds = self._by_sound(plain, self.heard.sound_of)
        scores = embeds @ self._words(JUDGED).T
        right = names[scores.argmax(1)] == sounds.concepts
        ours = sounds.held_out & np.isin(sounds.concepts, JUDGED)
        figures = self._shares("concepts", right, ours & ~sounds.many) | self._shares("many", right, ours & sounds.many)
        through = self._by_sound(telephone, self.heard.telephone_of) @ self._words(JUDGED).T
        right = names[through.argmax(1)] == sounds.concepts
        figures |= self._shares("telephone", right, np.isin(np.arange(len(sounds)), self.heard.telephone_of))
        labelled = np.isin(sounds.labels, sounds.judged_labels) & sounds.many
        right = (
            np.array(sounds.judged_labels)[(embeds @ self._words(sounds.judged_labels).T).argmax(1)] == sounds.labels
        )
        known, left_out = labelled & sounds.held_out & ~sounds.left_out, labelled & sounds.left_out
        figures |= {"labels": known.sum(), "labels_first": right[known].mean()}
        figures |= {"left_out": left_out.sum(), "left_out_first": right[left_out].mean()}
        best = scores.max(1).values.numpy()
        figures |= {"none": left_out.sum(), "none_refused": (best[left_out] < np.quantile(best[ours], LOST)).mean()}
        gallery = self.pictures.gallery()
        shown = self.pictures.concepts[gallery]
        asked = ours & np.isin(sounds.concepts, shown)
        first = rank_one(embeds[asked], self.pictures.embeds[gallery], sounds.concepts[asked], shown)
        return figures | {"photos": len(gallery), "photo_asked": asked.sum(), "photo_first": first}

    def _words(self, names: list[str] | tuple[str, ...]) -> torch.Tensor:
        return torch.stack([self.vectors[name] for name in names])

    def _by_sound(self, embeds: torch.Tensor, sound_of: np.ndarray) -> torch.Tensor:
        """(M, D) of clips -> (N, D) of sounds; zeros where there is no clip."""
        summed = torch.zeros(len(self.sounds), embeds.shape[1]).index_add_(0, torch.from_numpy(sound_of), embeds)
        return F.normalize(summed, dim=-1)

    def _shares(self, name: str, right: np.ndarray, which: np.ndarray) -> dict[str, float]:
        concepts = self.sounds.concepts
        by_class = [right[which & (concepts == c)].mean() for c in JUDGED if (which & (concepts == c)).any()]
        return {name: which.sum(), f"{name}_first": right[which].mean(), f"{name}_mean_class": np.mean(by_class)}


def run_hear(texts: Texts, folder: Path, config: LoopConfig, copies: int = 3) -> None:
    """Train the audio tower on what stage ``see`` left beside ``folder``; write figures, and the model of all three."""
    folder.mkdir(parents=True, exist_ok=True)
    read, seen, teacher = folder.parent / "read", folder.parent / "see", yamnet(texts.teachers)
    model, processor = towers_of(seen)
    heard = Heard(load_sounds(texts.data), teacher, folder, copies)
    tokenize = partial(text.transform, settings=text_settings(read))
    binding = Binding(heard, pictures_of(texts, seen, model), model, tokenize, audioset_names(texts.teachers))
    keep(folder, "before", lambda _: binding.floor(), model, WANTED)
    torch.manual_seed(0)
    towers = {name: model.config.tower(name) for name in model.config.modalities} | {"audio": audio_tower()}
    whole = ImageBindModel(ImageBindConfig(EMBED_DIM, towers))
    whole.load_state_dict(model.state_dict(), strict=False)
    tower = whole.towers["audio"]
    tower.stem.network.load_state_dict(teacher.state_dict(), strict=False)
    network, tower.stem.network = tower.stem.network, Cached()

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        return binding.loss(tower, config.batch_size, rng)

    trained = train(tower, step_loss, config, folder)
    keep(folder, "after", binding.figures, trained, WANTED)
    tower.load_state_dict(trained.state_dict())
    tower.stem.network = network
    whole.save_pretrained(folder / MODEL)
    processor = ImageBindProcessor.for_config(
        whole.config, text=processor.text, image=processor.image, audio=audio_settings()
    )
    processor.save_pretrained(folder / MODEL)
