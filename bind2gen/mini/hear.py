"""Stage ``hear``: an audio tower that begins with YAMNet and learns to meet the pictures and words of ``see``.

Sounds of what there are photos of are bound to those photos, as in the paper, and all to their names, while what the
world does to sounds is done to them. All are kept near the names that the teacher hears in the sound as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ..files.atomic import written_whole
from ..imagebind.config import ImageBindConfig
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..space.text_towers import EncoderText
from ..space.vocabulary import embed_names
from ..train.loop import LoopConfig
from .evaluate.labels import nearest_name
from .evaluate.verdicts import nearest_item
from .figures import keep
from .hear_lessons import Lessons, audio_tower, train_tower
from .heard import Heard, audio_settings, through
from .pictures import Pictures, pictures_of
from .recipe import EMBED_DIM, JUDGED, TEMPLATES
from .see import MODEL, towers_of
from .sounds import load_sounds
from .teachers import audioset_names, yamnet
from .texts import Texts, plain

logger = logging.getLogger(__name__)

PACK = "pack.safetensors"
TEACHER_TEMPERATURE = 2.0  # of its posteriors
# Names of the teacher's that say nothing of what it is that sounds; it hears them in nearly everything.
VAGUE = frozenset({
    "Animal", "Domestic animals, pets", "Livestock, farm animals, working animals", "Wild animals", "Vehicle",
    "Motor vehicle (road)", "Engine", "Inside, small room", "Inside, large room or hall", "Inside, public space",
    "Outside, urban or manmade", "Outside, rural or natural", "Silence", "Speech", "Music", "Musical instrument",
    "Sound effect", "Noise", "Environmental noise", "Static", "White noise",
})  # fmt: skip
PICTURED_FROM = 4  # photos of a kind, from which its sounds are bound to them
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


class Hearing:
    """Sounds, the photos and words that they are to meet, and what the teacher hears in them.

    Args:
        folder: of the stage; the teacher's answers are kept there.
    """

    def __init__(self, texts: Texts, folder: Path) -> None:
        self.model, self.processor = towers_of(folder.parent / "see")
        self.pictures: Pictures = pictures_of(texts, folder.parent / "see", self.model)
        self.heard, self.teacher = Heard(load_sounds(texts.data)), yamnet(texts.teachers)
        self.sounds = self.heard.sounds
        kinds = audioset_names(texts.teachers)
        meant = [[name for name in map(plain, kind.split(",")) if name] for kind in kinds]  # "Dishes, pots, and pans"
        every = sorted({*self.sounds.labels, *self.sounds.concepts, *JUDGED, *sum(meant, [])} - {""})
        vectors = embed_names(every, EncoderText(self.model, self.processor), templates=TEMPLATES)
        self.vectors = dict(zip(every, vectors, strict=True))
        audioset = torch.stack([F.normalize(self.words(names).mean(0), dim=-1) for names in meant])
        self.audioset = audioset - audioset.mean(0)
        self.vague = torch.tensor([kind in VAGUE for kind in kinds])
        self.answers = self._answers(folder / "teacher.safetensors")

    def _answers(self, path: Path) -> dict[str, torch.Tensor]:
        """The teacher's logits of all clips, (M, 521), and of those through a telephone."""
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as temporary:
                save_file(self.embed(self.teacher), temporary)
        return load_file(path)

    def embed(self, network: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
        """What a network gives of every clip as it is, and of those through a telephone; (M, ...) each."""
        heard = self.heard
        return {
            "plain": through(network, heard.clips, len(heard.clips)),
            "telephone": through(network, heard.telephone(), len(heard.telephone_of)),
        }

    def directions(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, 521) of the teacher -> (N, D): the names it hears, by how much it hears them."""
        heard = (logits / TEACHER_TEMPERATURE).masked_fill(self.vague, -torch.inf).softmax(1)
        return F.normalize(heard @ self.audioset, dim=-1)

    def lessons(self) -> Lessons:
        """Of the clips that are trained: those with a label, and those that are only heard behind others."""
        sounds, of = self.sounds, self.heard.sound_of
        rows = np.flatnonzero(sounds.trained[of])
        labels, concepts = sounds.labels[of[rows]], sounds.concepts[of[rows]]
        shown = {kind for kind in {*labels, *concepts} - {""} if len(self.pictures.of(kind)) >= PICTURED_FROM}
        seen_as = np.where(np.isin(labels, list(shown)), labels, concepts)
        seen_as = np.where(np.isin(seen_as, list(shown)) & (labels != ""), seen_as, "")
        kinds = sorted({*seen_as} - {""})
        names = sorted({*sounds.labels, *sounds.concepts, *JUDGED} - {"", *sounds.left_out_labels})
        photos = [self.pictures.of(kind) for kind in kinds]
        groups = np.where(concepts == "", seen_as, concepts)
        return Lessons(
            clips=[self.heard.clips[row] for row in rows],
            label=_places(labels, names),
            concept=_places(np.where(concepts == "", labels, concepts), names),
            ours=torch.from_numpy(concepts != ""),
            kind=_places(seen_as, kinds),
            group=torch.from_numpy(np.unique(groups, return_inverse=True)[1]),
            heard=self.directions(self.answers["plain"][rows]),
            names=self.words(names),
            judged=self.words(JUDGED),
            photos=self.pictures.embeds[np.concatenate(photos)],
            photo_kind=torch.arange(len(kinds)).repeat_interleave(torch.tensor([len(some) for some in photos])),
            network=self.teacher.state_dict(),
        )

    def words(self, names: list[str] | tuple[str, ...]) -> torch.Tensor:
        return torch.stack([self.vectors[name] for name in names])

    # ---- judging ----

    def figures(self, tower: torch.nn.Module) -> dict[str, float]:
        """Every figure of :data:`WANTED` and what it is made of, of the trained tower."""
        return self.judge(**self.embed(tower))

    def floor(self) -> dict[str, float]:
        """The same with nothing trained: the teacher's posteriors times the names."""
        return self.judge(**{name: self.directions(logits) for name, logits in self.answers.items()})

    def judge(self, plain: torch.Tensor, telephone: torch.Tensor) -> dict[str, float]:
        """Of embeddings of all clips, (M, D), and of those through a telephone."""
        sounds, embeds = self.sounds, self._by_sound(plain, self.heard.sound_of)
        through = self._by_sound(telephone, self.heard.telephone_of)
        ours = sounds.held_out & np.isin(sounds.concepts, JUDGED)
        again = np.isin(np.arange(len(sounds)), self.heard.telephone_of)
        labelled = np.isin(sounds.labels, sounds.judged_labels) & sounds.many
        known, left_out = labelled & sounds.held_out & ~sounds.left_out, labelled & sounds.left_out
        figures = {}
        for name, rows, wanted, names, which in (
            ("concepts", embeds, sounds.concepts, JUDGED, ours & ~sounds.many),
            ("many", embeds, sounds.concepts, JUDGED, ours & sounds.many),
            ("telephone", through, sounds.concepts, JUDGED, again),
            ("labels", embeds, sounds.labels, sounds.judged_labels, known),
            ("left_out", embeds, sounds.labels, sounds.judged_labels, left_out),
        ):
            figures |= nearest_name(rows, self.vectors, wanted, names, which).figures(name)
        best = (embeds @ self.words(JUDGED).T).max(1).values.numpy()
        figures |= {"none": left_out.sum(), "none_refused": (best[left_out] < np.quantile(best[ours], LOST)).mean()}
        gallery = self.pictures.gallery()
        shown = self.pictures.concepts[gallery]
        asked = ours & np.isin(sounds.concepts, shown)
        found = nearest_item(
            embeds[torch.from_numpy(asked)], self.pictures.embeds[gallery], sounds.concepts[asked], shown, JUDGED
        )
        return figures | {"photos": len(gallery), "photo_asked": asked.sum(), "photo_first": found.accuracy()}

    def _by_sound(self, embeds: torch.Tensor, sound_of: np.ndarray) -> torch.Tensor:
        """(M, D) of clips -> (N, D) of sounds; zeros where there is no clip."""
        summed = torch.zeros(len(self.sounds), embeds.shape[1]).index_add_(0, torch.from_numpy(sound_of), embeds)
        return F.normalize(summed, dim=-1)


def _places(names: np.ndarray, among: list[str]) -> torch.Tensor:
    """(N,) place of each name, -1 where it is none of them."""
    known = {name: place for place, name in enumerate(among)}
    return torch.tensor([known.get(name, -1) for name in names])


def run_pack(texts: Texts, folder: Path) -> None:
    """Write ``folder/pack.safetensors``: all that another machine needs to train the tower."""
    lessons = Hearing(texts, folder.parent / "hear").lessons()
    lessons.save(folder / PACK)
    logger.info("%s: %d clips, %.1f MiB", folder / PACK, len(lessons.clips), (folder / PACK).stat().st_size / 2**20)


def run_hear(texts: Texts, folder: Path, config: LoopConfig, pack: Path | None = None) -> None:
    """Train the audio tower on what stage ``see`` left beside ``folder``; write figures, and the model of all three.

    Args:
        pack: what ``hear-pack`` wrote: train from it, and no more; the same call without it, in the folder of that
            training, does the rest.
    """
    if pack:
        train_tower(Lessons.load(pack), folder, config)
        return
    hearing = Hearing(texts, folder)
    keep(folder, "before", lambda _: hearing.floor(), hearing.model, WANTED)
    tower = train_tower(hearing.lessons(), folder, config)
    keep(folder, "after", hearing.figures, tower, WANTED)
    model, processor = hearing.model, hearing.processor
    towers = {name: model.config.tower(name) for name in model.config.modalities} | {"audio": audio_tower()}
    whole = ImageBindModel(ImageBindConfig(EMBED_DIM, towers))
    whole.load_state_dict(model.state_dict(), strict=False)
    whole.towers["audio"].load_state_dict(tower.state_dict())
    whole.save_pretrained(folder / MODEL)
    processor = ImageBindProcessor.for_config(
        whole.config, text=processor.text, image=processor.image, audio=audio_settings()
    )
    processor.save_pretrained(folder / MODEL)
