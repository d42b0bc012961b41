"""The table: each row with what it should reach, as Markdown and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .likeness import Closeness, Variety
from .verdicts import Verdicts

OURS, OTHERS = "our data, held out", "other people's data"


@dataclass(frozen=True)
class Goal:
    """What a row is called, the shares 0..1 that it and its mean should and had better reach, and whose data it is."""

    label: str
    at_least: float | None = None
    aim: float | None = None
    mean_at_least: float | None = None
    group: str = OURS


GOALS = {
    "audio_to_text": Goal("audio -> text, zero-shot top-1", 0.60, 0.75),
    "image_to_text": Goal("image -> text, zero-shot top-1", 0.70, 0.80),
    "audio_to_image": Goal("audio -> image, right concept at rank 1", 0.50, 0.65),
    "generated": Goal("picture from sound, right under the judge", 0.55, 0.70),
    "thermal_to_text": Goal("thermal -> text, zero-shot top-1", 0.65, 0.80),
    "imu_to_text": Goal("IMU -> text, zero-shot top-1", 0.80, 0.90),
    "sum_of_image_and_sound": Goal("image + sound, both among the first five", 0.50, 0.70),
    "telephone_to_text": Goal("audio -> text, through a telephone's band, noise at 10 dB", 0.76),
    "judge_on_photos": Goal("the judge on held-out photos"),
    "judge_on_reconstructions": Goal("the judge on their reconstructions (the host's ceiling)"),
    "other_audio_to_text": Goal("audio -> text, zero-shot top-1", 0.76, mean_at_least=0.78, group=OTHERS),
    "other_sound_labels": Goal("audio -> its finer label, first of all judged", 0.50, group=OTHERS),
    "other_sound_labels_in_five": Goal("audio -> its finer label, among the first five", group=OTHERS),
    "other_sounds_refused": Goal("sounds of other things refused, 5 % of ours lost", 0.70, group=OTHERS),
    "other_audio_to_image": Goal("audio -> image, right kind of ten at rank 1", 0.65, group=OTHERS),
    "other_image_to_text": Goal("image -> text, zero-shot top-1", 0.90, group=OTHERS),
    "other_photo_labels": Goal("image -> its finer label, first of all judged", 0.85, group=OTHERS),
    "other_photo_labels_left_out": Goal("the same, labels that the new recipe does not train", group=OTHERS),
    "other_photos_none": Goal("photos of none of ours told from ours, AUROC", 0.85, group=OTHERS),
}
NOT_IN_MODEL = "not in this model"
NO_DATA = "no such held-out data"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        value: share of right answers, 0..1; None where it could not be measured, and ``why`` says why not.
        mean_over_concepts: the same with all concepts weighted alike.
        chance: what guessing gives.
        items: number of answers that were counted.
        by_concept: the share of each concept, or of each label.
    """

    value: float | None = None
    mean_over_concepts: float | None = None
    chance: float | None = None
    items: int = 0
    by_concept: dict[str, float] = field(default_factory=dict)
    why: str = ""

    @classmethod
    def of(cls, answers: Verdicts) -> Row:
        """Counted from one answer an item."""
        return cls(
            value=answers.accuracy(),
            mean_over_concepts=answers.mean_over_concepts(),
            chance=1 / len(answers.classes),
            items=len(answers.wanted),
            by_concept=answers.by_concept(),
        )


@dataclass(frozen=True)
class Scores:
    """Everything that one evaluation measured.

    Attributes:
        model: its name, without folders of this machine.
        partial: why these are no full scores (fewer items, a judge trained for fewer steps); empty if they are.
        rows: by the names of :data:`GOALS`, all of them.
        settings: of drawing and of the judge.
        other_ways: rows measured in another way than reported, by name.
        memorisation: by space: ``pixels``, and ``judge`` for the judge's features.
        seconds_per_picture: information; it depends on the machine.
        detector: on whole photos, by ``text`` and by ``audio``, see
            :meth:`~bind2gen.mini.evaluate.whole_photos.PhotoScores.at`; None without a detector or such photos.
    """

    model: str
    partial: list[str]
    rows: dict[str, Row]
    settings: dict[str, Any]
    other_ways: dict[str, float]
    variety: Variety | None
    memorisation: dict[str, Closeness | None]
    seconds_per_picture: float
    detector: dict[str, dict[str, float]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; each row carries its label and goals."""
        values = asdict(self)
        values["rows"] = {name: asdict(GOALS[name]) | row for name, row in values["rows"].items()}
        return values

    def cells(self) -> list[list[str]]:
        """The table, its heading first; the name of a group of rows stands alone above them."""
        lines, group = [["what", "score", "mean over concepts", "at least", "aim", "chance"]], None
        for name, goal in GOALS.items():
            if goal.group != group:
                group = goal.group
                lines.append([f"{group[0].upper()}{group[1:]}:", *[""] * 5])
            row = self.rows[name]
            reached = [percent(row.value) or row.why, percent(row.mean_over_concepts)]
            mean = f" (mean {percent(goal.mean_at_least, digits=0)})" if goal.mean_at_least else ""
            wanted = [percent(goal.at_least, digits=0) + mean, percent(goal.aim, digits=0)]
            lines.append([goal.label, *reached, *wanted, percent(row.chance)])
        return lines

    def table(self) -> str:
        """A Markdown table with aligned columns, then lines on variety, memorisation and speed."""
        cells = self.cells()
        widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
        cells.insert(1, ["-" * width for width in widths])
        lines = [" | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in cells]
        return "\n".join([*(f"| {line} |" for line in lines), "", *self.notes()])

    def notes(self) -> list[str]:
        """One sentence a measurement that is no share of right answers."""
        notes = [f"PARTIAL: {reason}" for reason in self.partial]
        if self.variety is not None:
            v = self.variety
            notes.append(
                f"Variety: two seeds of one sound differ by {v.pixels:.1f} of 255 levels (two photos of a concept: "
                f"{v.pixels_of_photos:.1f}), cosine {v.cosine:.2f} ({v.cosine_of_photos:.2f})."
            )
        for space, found in self.memorisation.items():
            if found is not None:
                notes.append(
                    f"Memorisation ({space}): the nearest training photo is {found.ratio_of_medians:.2f} times as far "
                    f"as for held-out photos; {percent(found.share_close)} of pictures are nearer than 1 % of these."
                )
        for way, found in (self.detector or {}).items():
            notes.append(
                f"Detector on {found['photos']} whole photos, all concepts asked by {way}: "
                f"{percent(found['photos_with_a_wrong_box'])} of photos get a box of what is not there, "
                f"{percent(found['found'])} of what is there gets one, AUROC {found['auroc']:.2f}; of "
                f"{found['boxes_on_boxed_photos']} boxes on photos with known ones {found['of_these_right']} are right."
            )
        notes.append(f"Speed: {self.seconds_per_picture:.2f} s a picture, once loaded.")
        return notes


def percent(share: float | None, *, digits: int = 1) -> str:
    """``0.5`` -> ``50.0 %``; nothing for None."""
    return "" if share is None else f"{100 * share:.{digits}f} %"
