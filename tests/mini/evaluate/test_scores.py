from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from bind2gen.mini.evaluate.likeness import Closeness, Variety
from bind2gen.mini.evaluate.scores import GOALS, NOT_IN_MODEL, Row, Scores
from bind2gen.mini.evaluate.sheets import (
    CELL,
    MARGIN,
    PICTURE,
    TEXT,
    confusion_picture,
    contact_sheet,
    index_page,
    nearest_sheet,
    word_sheet,
)
from bind2gen.mini.evaluate.verdicts import Verdicts


@pytest.fixture
def scores() -> Scores:
    rows = {name: Row(0.125, 0.25, 0.0625, 8, {"dog": 0.5}) for name in GOALS}
    rows["imu_to_text"] = Row(why=NOT_IN_MODEL)
    return Scores(
        model="mini <1>",
        partial=["at most 4 items of each concept (--limit)"],
        rows=rows,
        settings={"steps": 20},
        other_ways={},
        variety=Variety(10.0, 60.0, 0.5, 0.25),
        memorisation={"pixels": Closeness(0.75, 0.02, 30.0, 40.0), "judge": None},
        seconds_per_picture=1.5,
    )


def test_the_table_shows_every_row_with_its_goals(scores):
    lines = scores.table().split("\n")
    assert len([line for line in lines if line.startswith("|")]) == 2 + 2 + len(GOALS)  # heading, groups
    assert len({len(line) for line in lines if line.startswith("|")}) == 1  # aligned
    cells = [cell.strip() for cell in next(x for x in lines if x.startswith("| audio -> text")).split("|")]
    assert cells[2:7] == ["12.5 %", "25.0 %", "60 %", "75 %", "6.2 %"]


def test_each_group_of_rows_stands_under_its_name(scores):
    first = [cells[0] for cells in scores.cells()]
    ours, theirs = (first.index(name) for name in ("Our data, held out:", "Other people's data:"))
    assert ours < first.index(GOALS["judge_on_photos"].label) < theirs < first.index(GOALS["other_photos_none"].label)
    assert scores.cells()[theirs + 1][3] == "76 % (mean 78 %)"


def test_what_could_not_be_measured_and_what_is_partial_is_said(scores):
    table = scores.table()
    assert NOT_IN_MODEL in next(line for line in table.split("\n") if line.startswith("| IMU"))
    assert "PARTIAL: at most 4 items" in table
    assert "0.75 times" in table and "10.0 of 255" in table and "1.50 s" in table


def test_the_json_holds_values_and_goals_and_survives_a_round_trip(scores):
    values = json.loads(json.dumps(scores.to_dict()))
    assert values == scores.to_dict()
    assert values["rows"]["generated"]["value"] == 0.125 and values["rows"]["generated"]["at_least"] == 0.55
    assert values["rows"]["imu_to_text"]["value"] is None
    assert values["rows"].keys() == GOALS.keys()


def test_the_page_escapes_names_and_shows_the_pictures(scores):
    page = index_page(scores, [("a.png", "heard & seen")])
    assert "mini &lt;1&gt;" in page and "mini <1>" not in page
    assert '<img src="a.png" alt="heard &amp; seen">' in page
    assert page.count("<tr>") == 1 + 2 + len(GOALS)
    heard = index_page(scores, [], [("a < b", "sea, dog")])
    assert "<td>a &lt; b</td><td>sea, dog</td>" in heard and heard.count("<tr>") == page.count("<tr>") + 2


def test_the_contact_sheet_holds_every_picture_at_its_place():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet(["dog", "sea"], pictures))
    assert sheet.shape == (32, MARGIN + 48, 3)
    assert np.array_equal(sheet[16:, MARGIN + 32 :], pictures[1, 2])
    assert (sheet[:16, :MARGIN] < 128).any()  # the name


def test_the_sheet_of_neighbours_puts_each_picture_beside_its_own():
    pictures, near = (np.full((10, 16, 16, 3), level, np.uint8) + np.arange(10, dtype=np.uint8)[:, None, None, None]
                      for level in (50, 150))  # fmt: skip
    sheet = np.asarray(nearest_sheet(pictures, [near], ["x"] * 10))
    for level in range(10):
        rows, columns = np.nonzero((sheet == 50 + level).all(2))
        top, left = rows.min(), columns.min()
        assert (sheet[top : top + 16, left + 16 : left + 32] == 150 + level).all()


def test_the_sheet_of_words_holds_each_picture_above_its_words():
    pictures = [Image.new("RGB", size, (k, 200, 200)) for k, size in enumerate([(320, 160), (40, 80), *[(8, 8)] * 5])]
    sheet = np.asarray(word_sheet(pictures, [["dog", "sea"]] * 6 + [["dog", ""]]))
    boxes = [np.argwhere((sheet == (k, 200, 200)).all(2)) for k in range(7)]
    sizes = [tuple(box.max(0) - box.min(0) + 1) for box in boxes]
    assert sizes == [(PICTURE / 2, PICTURE), (PICTURE, PICTURE / 2)] + [(PICTURE, PICTURE)] * 5
    assert len({box[:, 0].max() for box in boxes[:5]}) == 1 and boxes[5][:, 0].min() > boxes[0][:, 0].max()
    words = [sheet[box[:, 0].max() + 1 :][: 2 * (TEXT + 3), box[:, 1].min() :][:, :PICTURE] for box in boxes[-2:]]
    assert (words[0] < 128).sum() > (words[1] < 128).sum() > 0


def test_the_confusion_picture_is_dark_where_the_answers_are():
    answers = Verdicts(np.array(["dog", "sea"]), np.array(["sea", "sea"]), ("dog", "sea"))
    picture = np.asarray(confusion_picture(answers))
    corner = [[picture[MARGIN + r * CELL + 3, MARGIN + c * CELL + 3, 0] for c in range(2)] for r in range(2)]
    assert corner == [[255, 0], [255, 0]]
