"""The model on other people's photographs and sounds: ``photos`` and ``sounds`` of a data folder, where it has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...errors import InputError
from ...pipelines.unclip import ImageBindUnCLIPPipeline
from ...preprocess.image import upright
from ...space.vocabulary import Vocabulary
from ...space.zero_shot import ZeroShotClassifier
from ...studio.words import NearestWords
from ..data import AudioSet, load_audio, read_files, read_rows
from ..recipe import JUDGED
from . import drawing, verdicts
from .held_out import folder_of, named, spread
from .labels import (
    SOUND_LABELS_FROM,
    LabelledPhotos,
    frequent,
    labels_of,
    nearest_name,
    of_kept_source,
    photo_verdicts,
)
from .scores import NO_DATA, Row
from .sheets import sheet
from .verdicts import Verdicts, auroc

KINDS, PHOTOS_OF_A_KIND = 10, 60  # that a sound is to find its photo among
LOST = 0.05  # share of known sounds that may be refused with the unknown
FIRST = 5  # labels, or words
PICTURE = 160  # pixels, the longer side of a picture above its words
UNCHOSEN = 20  # photos and sounds that are shown with their words
SEED = 0  # of the choice of kinds, photos and sounds


@dataclass(frozen=True)
class OtherPhotos:
    """Photographs to judge on.

    Attributes:
        files: all of the folder.
        judged: (N,) places of those that are judged.
        held_out: (N,) bool: those of them that are held out; the others are all photos of the labels left out.
        labels, left_out: names that are answered, and those of them that the new recipe does not train.
    """

    files: LabelledPhotos
    judged: np.ndarray
    held_out: np.ndarray
    labels: list[str]
    left_out: list[str]


@dataclass(frozen=True)
class OtherSounds:
    """Clips to judge on, and the labels that are answered."""

    clips: AudioSet
    labels: list[str]


@dataclass(frozen=True)
class Others:
    """Other people's data; None where there is none."""

    photos: OtherPhotos | None = None
    sounds: OtherSounds | None = None


def load_others(folder: Path, held_out: Path | None = None, *, limit: int | None = None) -> Others:
    """Read ``photos`` and ``sounds``, each a csv beside a tar, of a folder or of its subfolders.

    Args:
        folder: a tenth of its photos, and the sounds of a fifth of its sources, are judged on.
        held_out: another folder, all of which is judged on instead; which labels are judged ``folder`` says still.
        limit: items of each label.

    Raises:
        InputError: columns are missing.
        UnreadableError: an archive is damaged.
    """
    return Others(_photos(folder, held_out, limit), _sounds(folder, held_out, limit))


def _has(folder: Path | None, name: str) -> bool:
    return folder is not None and (folder_of(folder, name) / f"{name}.csv").is_file()


def _photos(folder: Path, held_out: Path | None, limit: int | None) -> OtherPhotos | None:
    if not _has(held_out or folder, "photos"):
        return None
    files = _labelled(held_out or folder)
    rows = np.arange(len(files)) if held_out else files.judged_rows()
    rows = rows[spread(files.labels[rows], limit)]
    if not len(rows):
        return None
    kept = np.ones(len(rows), bool) if held_out else files.held_out[rows]
    about = _labelled(folder) if held_out and _has(folder, "photos") else files
    return OtherPhotos(files, rows, kept, about.judged_labels, about.left_out_labels)


def _labelled(folder: Path) -> LabelledPhotos:
    place = folder_of(folder, "photos")
    with named(place):
        samples, files = map(list, zip(*read_files(place, "photos"), strict=True))
    return LabelledPhotos(files, samples, np.ones(len(samples), bool))


def _sounds(folder: Path, held_out: Path | None, limit: int | None) -> OtherSounds | None:
    if not _has(held_out or folder, "sounds"):
        return None
    place = folder_of(held_out or folder, "sounds")
    samples = read_rows(place / "sounds.csv")
    about = read_rows(folder_of(folder, "sounds") / "sounds.csv") if _has(folder, "sounds") else samples
    if not held_out:
        if "source" not in samples[0].row:
            raise InputError(f"{place / 'sounds.csv'}: wanted the column source, by which sounds are held out")
        samples = [sample for sample, kept in zip(samples, of_kept_source(samples), strict=True) if kept]
    samples = [samples[i] for i in np.flatnonzero(spread(labels_of(samples), limit))]
    if not samples:
        return None
    with named(place):
        clips = load_audio(place, "sounds", samples)
    return OtherSounds(clips, frequent(labels_of(about).tolist(), SOUND_LABELS_FROM))


class Judging:
    """Rows of other people's data; what several of them need is computed once here.

    Args:
        sounds: tells what is known by its sound from what is not; None compares with the concepts' words alone.
        quiet: no progress bars.

    Attributes:
        photo_embeds: (N, D) of the judged photos, in their order; sound_embeds: (N, D) of the clips. None without.
    """

    def __init__(
        self,
        pipe: ImageBindUnCLIPPipeline,
        data: Others,
        *,
        sounds: ZeroShotClassifier | None = None,
        quiet: bool = False,
    ) -> None:
        self.pipe, self.data, self.known_sounds, self.quiet = pipe, data, sounds, quiet
        photos, sounds = data.photos, data.sounds
        names = sorted({*JUDGED, *(photos.labels if photos else ()), *(sounds.labels if sounds else ())})
        self.vectors = dict(zip(names, drawing.class_embeddings(pipe, names), strict=True)) if photos or sounds else {}
        self.photo_embeds = self._photo_embeds(photos.judged) if photos else None
        clips = drawing.with_rate(sounds.clips) if sounds else []
        self.sound_embeds = drawing.embed(pipe, "audio", clips, quiet=quiet) if sounds else None

    def _photo_embeds(self, places: np.ndarray) -> torch.Tensor:
        return drawing.embed(self.pipe, "image", [self.data.photos.files.files[i] for i in places], quiet=self.quiet)

    def rows(self) -> tuple[dict[str, Row], dict[str, float]]:
        """Rows by the names of :data:`~bind2gen.mini.evaluate.scores.GOALS`, and some measured in another way."""
        found, moved = self._found_photos()
        return {**self._heard(), "other_audio_to_image": found, **self._seen()}, moved

    # ---- sounds ----

    def _heard(self) -> dict[str, Row]:
        names = ("other_audio_to_text", "other_sound_labels", "other_sound_labels_in_five", "other_sounds_refused")
        if self.data.sounds is None:
            return dict.fromkeys(names, Row(why=NO_DATA))
        clips, labels = self.data.sounds.clips, self.data.sounds.labels
        concepts, of_clips = clips.concepts(), labels_of(clips.samples)
        ours, known = np.isin(concepts, JUDGED), np.isin(of_clips, labels)
        rows = (
            _row(nearest_name(self.sound_embeds, self.vectors, concepts, JUDGED, ours)),
            _row(nearest_name(self.sound_embeds, self.vectors, of_clips, labels, known)),
            self._in_five(known, of_clips),
            self._refused(ours, concepts == ""),
        )
        return dict(zip(names, rows, strict=True))

    def _in_five(self, chosen: np.ndarray, wanted: np.ndarray) -> Row:
        labels = np.array(self.data.sounds.labels)
        if not chosen.any():
            return Row(why=NO_DATA)
        scores = self.sound_embeds[torch.from_numpy(chosen)] @ torch.stack([self.vectors[name] for name in labels]).T
        first = labels[scores.topk(min(FIRST, len(labels))).indices.numpy()]  # (N, 5)
        right = (first == wanted[chosen, None]).any(1)
        return Row(float(right.mean()), chance=first.shape[1] / len(labels), items=len(right))

    def _refused(self, ours: np.ndarray, others: np.ndarray) -> Row:
        """Share of sounds of other things that are less surely any of ours than all but :data:`LOST` of ours are."""
        if not ours.any() or not others.any():
            return Row(why=NO_DATA)
        known = self._known().numpy()
        least = np.quantile(known[ours], LOST, method="lower")
        return Row(float((known[others] < least).mean()), chance=LOST, items=int(others.sum()))

    def _known(self) -> torch.Tensor:
        """(N,) how surely each sound is any of ours, as the product tells it."""
        if self.known_sounds is not None:
            return self.known_sounds(self.sound_embeds).known
        return (self.sound_embeds @ torch.stack([self.vectors[name] for name in JUDGED]).T).amax(1)

    def _found_photos(self) -> tuple[Row, dict[str, float]]:
        """The kind of the nearest photo to a sound."""
        if self.data.sounds is None or self.data.photos is None:
            return Row(why=NO_DATA), {}
        heard = self.data.sounds.clips.concepts()
        places = gallery(self.data.photos, heard)
        if not len(places):
            return Row(why=NO_DATA), {}
        shown = self.data.photos.files.concepts[places]
        asked = np.isin(heard, shown)
        photos, sounds, wanted = self._photo_embeds(places), self.sound_embeds[torch.from_numpy(asked)], heard[asked]
        moved = self.pipe.adapter.shift("audio", sounds.to(self.pipe.device)).cpu()
        plain, over_the_gap = (verdicts.nearest_item(s, photos, wanted, shown, JUDGED) for s in (sounds, moved))
        row = replace(Row.of(plain), chance=verdicts.rank_one_chance(wanted, shown))
        return row, {"other_audio_to_image, moved over the gap": over_the_gap.accuracy()}

    # ---- photos ----

    def _seen(self) -> dict[str, Row]:
        names = ("other_image_to_text", "other_photo_labels", "other_photo_labels_left_out", "other_photos_none")
        if self.data.photos is None:
            return dict.fromkeys(names, Row(why=NO_DATA))
        photos = self.data.photos
        found, ours, none = photo_verdicts(
            photos.files.take(photos.judged), self.photo_embeds, self.vectors, photos.labels, photos.left_out
        )
        rows = [_row(found[name]) for name in ("large_concepts", "labels", "left_out")]
        told = len(ours) and len(none)
        rows.append(Row(auroc(ours, none), chance=0.5, items=len(none)) if told else Row(why=NO_DATA))
        return dict(zip(names, rows, strict=True))

    # ---- what no one chose ----

    def unchosen(self, words: Sequence[str] | Vocabulary) -> tuple[Image.Image | None, list[list[str]]]:
        """A sheet of photos with the words that the model finds nearest, and a line a sound: its label, and the words.

        None and [] where there are none.
        """
        photos, sounds, made, lines = self.data.photos, self.data.sounds, None, []
        if photos is None and sounds is None:
            return None, []
        known = NearestWords.for_pipeline(self.pipe, words)

        def told(modality: str, embeds: torch.Tensor) -> list[list[str]]:
            moved = self.pipe.adapter.shift(modality, embeds.to(self.pipe.device))
            return [list(known.nearest(row[None], FIRST)) for row in moved]

        if photos is not None and photos.held_out.any():
            chosen = _drawn(np.flatnonzero(photos.held_out))
            pictures = [[upright(photos.files.files[i])] for i in photos.judged[chosen]]
            words_of = told("image", self.photo_embeds[chosen])
            made = sheet(list(zip(pictures, words_of, strict=True)), FIRST, side=PICTURE)
        if sounds is not None:
            chosen = _drawn(np.arange(len(sounds.clips.samples)))
            labels = labels_of([sounds.clips.samples[i] for i in chosen]).tolist()
            near = told("audio", self.sound_embeds[chosen])
            lines = [[label, ", ".join(five)] for label, five in zip(labels, near, strict=True)]
        return made, lines


def _drawn(among: np.ndarray) -> np.ndarray:
    return np.sort(np.random.default_rng(SEED).choice(among, min(UNCHOSEN, len(among)), replace=False))


def _row(answers: Verdicts) -> Row:
    return Row.of(answers) if len(answers.wanted) else Row(why=NO_DATA)


def gallery(photos: OtherPhotos, heard: np.ndarray) -> np.ndarray:
    """Places of up to :data:`PHOTOS_OF_A_KIND` photos of each of up to :data:`KINDS` kinds that are heard as well.

    Kinds with photos enough go first, and of a kind those photos that are judged on; what is left is drawn by
    :data:`SEED`.
    """
    rng, concepts = np.random.default_rng(SEED), photos.files.concepts
    kinds = rng.permutation([name for name in JUDGED if name in heard and name in concepts])
    chosen = sorted(kinds, key=lambda kind: -min(PHOTOS_OF_A_KIND, (concepts == kind).sum()))[:KINDS]
    judged = np.zeros(len(concepts), bool)
    judged[photos.judged] = True
    places = []
    for kind in chosen:
        there = rng.permutation(np.flatnonzero(concepts == kind))
        places.append(there[np.argsort(~judged[there], kind="stable")][:PHOTOS_OF_A_KIND])
    return np.concatenate(places) if places else np.zeros(0, int)
