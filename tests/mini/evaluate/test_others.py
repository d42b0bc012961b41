from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from mini_folder import OTHER_LABELS, RATE, is_held_out, write_other_photos, write_other_sounds, write_table
from PIL import Image

from bind2gen.errors import InputError, UnreadableError
from bind2gen.mini.data import AudioSet, Sample
from bind2gen.mini.evaluate import drawing, labels, others
from bind2gen.mini.evaluate.drawing import BAND, SIGNAL_TO_NOISE, through_a_telephone
from bind2gen.mini.evaluate.others import UNCHOSEN, Judging, Others, gallery, load_others
from bind2gen.mini.evaluate.scores import GOALS, NO_DATA, OTHERS
from bind2gen.mini.recipe import JUDGED
from bind2gen.space.zero_shot import ZeroShotClassifier

WORDS = (*OTHER_LABELS, "sea", "car")
ROWS = {name for name, goal in GOALS.items() if goal.group == OTHERS}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Photos and sounds in subfolders, of which one label of photos is left out of training."""
    monkeypatch.setattr(labels, "LEFT_OUT", 1)
    for name, write in (("photos", write_other_photos), ("sounds", write_other_sounds)):
        (tmp_path / "data" / name).mkdir(parents=True)
        write(tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.fixture
def pipe(make_pipeline):
    pipe = make_pipeline()
    pipe.adapter.means.zero_()  # no gap between these modalities
    return pipe


@pytest.fixture
def known_embeddings(monkeypatch):
    """Names lie on axes of their own; what is embedded lies on the axis that ``put`` says, in the order of calls."""
    axes = sorted({*JUDGED, *OTHER_LABELS})

    def on(names) -> torch.Tensor:
        return torch.eye(32)[[axes.index(name) if name in axes else 31 for name in names]]

    def put(**answers: list[list[str]]) -> None:
        def embed(pipe, modality, items, *, quiet):
            names = answers[modality].pop(0)
            assert len(names) == len(items)
            return on(names)

        monkeypatch.setattr(drawing, "embed", embed)
        monkeypatch.setattr(drawing, "class_embeddings", lambda pipe, names: on(names))

    return put


def answers_of(data: Others, named=lambda labels: labels) -> dict[str, list[list[str]]]:
    """What ``known_embeddings`` puts for perfect towers, but for what ``named`` makes of the sounds' labels."""
    shown = data.photos.files.labels
    places = gallery(data.photos, data.sounds.clips.concepts())
    heard = named([sample.row["label"] for sample in data.sounds.clips.samples])
    return {"image": [list(shown[data.photos.judged]), list(shown[places])], "audio": [heard]}


def test_what_is_judged_is_held_out_by_photo_and_by_source(folder):
    data = load_others(folder)
    assert data.photos.labels == data.sounds.labels == sorted(OTHER_LABELS)
    (left_out,) = data.photos.left_out
    assert left_out in ("anchor", "piano")
    judged = [data.photos.files.samples[i] for i in data.photos.judged]
    for sample in judged:
        assert is_held_out(sample.path.split("/")[1]) or sample.row["label"] == left_out
    assert len(judged) == 2 * 4 + 12 and data.photos.held_out.sum() == 2 * 5
    assert len(data.sounds.clips.samples) == 2 * len(OTHER_LABELS)
    assert {zlib.crc32(s.row["source"].encode()) % 5 for s in data.sounds.clips.samples} == {0}


def test_of_another_folder_all_is_judged_on_the_labels_of_the_first(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write_other_photos(other, ("dog", "piano"), each=3)
    write_other_sounds(other, ("dog", "violin"), each=5)
    data = load_others(folder, other)
    assert data.photos.judged.tolist() == list(range(6)) and data.photos.labels == sorted(OTHER_LABELS)
    assert len(data.sounds.clips.samples) == 10 and data.sounds.labels == sorted(OTHER_LABELS)
    assert data.photos.left_out == load_others(folder).photos.left_out
    few = load_others(folder, other, limit=2)
    assert len(few.photos.judged) == len(few.sounds.clips.samples) == 4


def test_perfect_towers_score_all(folder, pipe, known_embeddings):
    data = load_others(folder)
    known_embeddings(**answers_of(data))
    rows, moved = Judging(pipe, data, quiet=True).rows()
    assert rows.keys() == ROWS
    assert {name: row.value for name, row in rows.items()} == dict.fromkeys(ROWS, 1.0)
    assert moved == {"other_audio_to_image, moved over the gap": 1.0}
    assert rows["other_audio_to_text"].items == 6 and rows["other_sound_labels"].items == 10
    assert rows["other_photo_labels_left_out"].items == 12
    assert rows["other_audio_to_image"].chance == pytest.approx(1 / 3)


def test_each_confusion_lowers_the_rows_that_it_concerns(folder, pipe, known_embeddings):
    data = load_others(folder)
    heard = {"cat": "dog", "piano": "bird"}  # one of ours for another, and another thing for one of ours
    known_embeddings(**answers_of(data, lambda labels: [heard.get(label, label) for label in labels]))
    rows, _ = Judging(pipe, data, quiet=True).rows()
    assert rows["other_audio_to_text"].value == rows["other_audio_to_image"].value == pytest.approx(2 / 3)
    assert rows["other_sound_labels"].value == pytest.approx(3 / 5)
    assert rows["other_sound_labels"].by_concept == {"anchor": 1, "bird": 1, "cat": 0, "dog": 1, "piano": 0}
    assert rows["other_sounds_refused"].value == pytest.approx(1 / 2)
    assert rows["other_image_to_text"].value == rows["other_photo_labels"].value == 1


def test_other_sounds_are_refused_by_what_the_model_knows_by_sound(folder, pipe, known_embeddings):
    data = load_others(folder)
    known_embeddings(**answers_of(data, lambda labels: ["bird" if label == "piano" else label for label in labels]))
    axes = torch.eye(32)
    naming = ZeroShotClassifier(("all",), axes[:31].sum(0)[None], 20.0, others={"none": axes[31]})
    rows, _ = Judging(pipe, data, sounds=naming, quiet=True).rows()
    assert rows["other_sounds_refused"].value == 0  # all are as surely of ours, what is heard as a bird and what is not


def test_without_data_every_row_says_so_and_nothing_is_shown(tmp_path, pipe):
    judging = Judging(pipe, load_others(tmp_path), quiet=True)
    rows, moved = judging.rows()
    assert {name: row.why for name, row in rows.items()} == dict.fromkeys(ROWS, NO_DATA) and not moved
    assert judging.unchosen(WORDS) == (None, [])


def test_photos_alone_without_labels_fill_the_rows_that_they_can(tmp_path, pipe):
    photos = {f"{i}.png": ("dog", picture) for i, picture in enumerate(pictures(3), 2)}
    write_table(tmp_path, "photos", "path,concept", photos)
    data = load_others(tmp_path, tmp_path)
    rows, _ = Judging(pipe, data, quiet=True).rows()
    assert {name for name, row in rows.items() if not row.why} == {"other_image_to_text"}
    assert not any(is_held_out(path) for path in photos) and load_others(tmp_path).photos is None


def pictures(count: int) -> list[bytes]:
    import io

    files = [io.BytesIO() for _ in range(count)]
    for shade, file in enumerate(files):
        Image.new("RGB", (24, 20), (80 * shade, 0, 0)).save(file, "PNG")
    return [file.getvalue() for file in files]


def test_a_missing_source_and_a_damaged_archive_are_named(folder):
    (folder / "photos" / "photos.tar").write_bytes(b"no tar " * 200)
    with pytest.raises(UnreadableError, match="photos"):
        load_others(folder)
    (folder / "photos" / "photos.csv").unlink()
    (folder / "sounds" / "sounds.csv").write_text("path,concept,label\na.wav,dog,dog\n")
    with pytest.raises(InputError, match="column source"):
        load_others(folder)


def test_the_gallery_takes_full_kinds_and_held_out_photos_first(folder, monkeypatch):
    monkeypatch.setattr(others, "PHOTOS_OF_A_KIND", 5)
    photos = load_others(folder).photos
    places = gallery(photos, np.array(["dog", "bird", ""]))
    concepts = photos.files.concepts[places]
    assert sorted(np.unique(concepts)) == ["bird", "dog"] and len(places) == 10 == len(set(places))
    assert sum(photos.files.held_out[places]) == 4  # all that there are of these
    assert np.array_equal(places, gallery(photos, np.array(["bird", "dog"])))
    monkeypatch.setattr(others, "KINDS", 1)
    rare = (photos.files.concepts == "dog").nonzero()[0][3:]
    files = photos.files.take(np.setdiff1d(np.arange(len(photos.files)), rare))
    fewer = others.OtherPhotos(files, np.zeros(0, int), np.zeros(0, bool), [], [])
    assert set(fewer.files.concepts[gallery(fewer, np.array(["dog", "bird"]))]) == {"bird"}
    assert len(gallery(photos, np.array(["sea"]))) == 0


def test_a_telephone_takes_its_band_and_adds_its_noise():
    seconds = np.arange(2 * RATE) / RATE
    tones = {100: 1.0, 1000: 0.5, 6000: 1.0}  # Hz: level
    waveform = sum(level * np.sin(2 * np.pi * hertz * seconds) for hertz, level in tones.items())
    silence = np.zeros(RATE, np.float32)
    sounds = AudioSet([waveform.astype(np.float32), silence], [Sample(p, "", {}) for p in ("a", "b")], RATE)
    heard, still = through_a_telephone(sounds).waveforms
    power = np.abs(np.fft.rfft(heard)) ** 2
    hertz = np.fft.rfftfreq(len(heard), 1 / RATE)
    inside = (hertz >= BAND[0]) & (hertz <= BAND[1])
    assert power[~inside].sum() < 1e-9 * power.sum()
    tone = hertz == 1000
    ratio = 10 * np.log10(power[tone].sum() / power[inside & ~tone].sum())
    assert ratio == pytest.approx(SIGNAL_TO_NOISE, abs=0.1)
    assert not still.any()
    assert np.array_equal(heard, through_a_telephone(sounds).waveforms[0])


def test_what_no_one_chose_has_its_nearest_words(folder, pipe):
    judging = Judging(pipe, load_others(folder), quiet=True)
    sheet, lines = judging.unchosen(WORDS)
    assert len(lines) == len(judging.data.sounds.clips.samples) < UNCHOSEN  # all there are
    assert [label for label, _ in lines] == [s.row["label"] for s in judging.data.sounds.clips.samples]
    assert all(len(set(words.split(", ")) & set(WORDS)) == 5 for _, words in lines)
    assert (np.asarray(sheet) < 255).any()
    again = judging.unchosen(WORDS)
    assert again[1] == lines and np.array_equal(again[0], sheet)
