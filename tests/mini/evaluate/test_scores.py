from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from bind2gen.mini.evaluate.likeness import Closeness, Variety
from bind2gen.mini.evaluate.scores import GOALS, NOT_IN_MODEL, Row, Scores
from bind2gen.mini.evaluate.sheets import LINE, MARGIN, index_page, sheet
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
    heard = index_page(scores, [], sounds=[("a < b", "sea, dog")])
    assert "<td>a &lt; b</td><td>sea, dog</td>" in heard and heard.count("<tr>") == page.count("<tr>") + 2


def test_a_sheet_holds_every_picture_at_its_place_above_its_lines():
    pictures = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16, 3), dtype=np.uint8)
    made = np.asarray(sheet([(row, ["dog", "x" * (i != 3)]) for i, row in enumerate(pictures)], 2))
    width, height = 3 * 16 + 2 * MARGIN, 16 + 2 * LINE + 2 * MARGIN
    assert made.shape == (3 * height, 2 * width, 3)
    for i, row in enumerate(pictures):
        top, left = i // 2 * height + MARGIN, i % 2 * width + MARGIN
        assert np.array_equal(made[top : top + 16, left : left + 48], np.concatenate(row, 1))
        lines = made[top + 17 : top + 17 + 2 * LINE, left : left + 48] < 128
        assert lines[:LINE].any() and lines[LINE:].any() == (i != 3)


def test_pictures_of_any_size_stand_on_their_lines():
    sizes = [(320, 160), (40, 80), *[(8, 8)] * 5]
    groups = [([Image.new("RGB", size, (k, 200, 200))], ["dog"]) for k, size in enumerate(sizes)]
    made = np.asarray(sheet(groups, 5, side=160))
    boxes = [np.argwhere((made == (k, 200, 200)).all(2)) for k in range(7)]
    sizes = [tuple(box.max(0) - box.min(0) + 1) for box in boxes]
    assert sizes == [(80, 160), (160, 80)] + [(160, 160)] * 5
    assert len({box[:, 0].max() for box in boxes[:5]}) == 1 and boxes[5][:, 0].min() > boxes[0][:, 0].max()


def test_a_confusion_matrix_is_dark_where_the_answers_are(scores):
    answers = Verdicts(np.array(["dog", "sea"]), np.array(["sea", "sea"]), ("dog", "sea"))
    page = index_page(scores, [], {"heard & named": answers})
    assert "<h2>heard &amp; named</h2>" in page
    cells = re.findall(r'rgba\(90,160,255,([\d.]+)\)">(\d*)<', page)
    assert cells == [("0.00", ""), ("1.00", "100")] * 2
