from __future__ import annotations

import json

import numpy as np
import pytest

from bind2gen.evaluate.likeness import Closeness, Variety
from bind2gen.evaluate.scores import GOALS, NOT_IN_MODEL, Row, Scores
from bind2gen.evaluate.sheets import CELL, MARGIN, confusion_picture, contact_sheet, index_page, nearest_sheet
from bind2gen.evaluate.verdicts import Verdicts


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
    assert len([line for line in lines if line.startswith("|")]) == 2 + len(GOALS)
    assert len({len(line) for line in lines if line.startswith("|")}) == 1  # aligned
    cells = [cell.strip() for cell in next(x for x in lines if x.startswith("| audio -> text")).split("|")]
    assert cells[2:7] == ["12.5 %", "25.0 %", "60 %", "75 %", "6.2 %"]


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
    assert page.count("<tr>") == 1 + len(GOALS)


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


def test_the_confusion_picture_is_dark_where_the_answers_are():
    answers = Verdicts(np.array(["dog", "sea"]), np.array(["sea", "sea"]), ("dog", "sea"))
    picture = np.asarray(confusion_picture(answers))
    corner = [[picture[MARGIN + r * CELL + 3, MARGIN + c * CELL + 3, 0] for c in range(2)] for r in range(2)]
    assert corner == [[255, 0], [255, 0]]
