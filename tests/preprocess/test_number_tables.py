from __future__ import annotations

import io

import numpy as np
import pytest

from bind2gen.errors import NonFiniteError, ShapeError, TooLargeError, UnreadableError
from bind2gen.preprocess import depth, thermal
from bind2gen.preprocess.grey import read_values
from bind2gen.preprocess.number_tables import read_numbers

DEGREES = np.random.default_rng(0).uniform(-5, 40, (12, 16)).round(3)


def table(values: np.ndarray, delimiter: str, *, comma: bool = False, form: str = "%.3f") -> str:
    file = io.StringIO()
    np.savetxt(file, values, fmt=form, delimiter=delimiter)
    return file.getvalue().replace(".", ",") if comma else file.getvalue()


def read(text: str | bytes) -> np.ndarray:
    return read_values(text.encode() if isinstance(text, str) else text, "a depth map")[0]


@pytest.mark.parametrize("comma", [False, True])
@pytest.mark.parametrize("delimiter", [";", "\t", ",", " ", "; "])
def test_delimiters_and_decimals(delimiter, comma):
    if (delimiter, comma) == (",", True):
        pytest.skip("nobody could read it")
    assert np.array_equal(read(table(DEGREES, delimiter, comma=comma)), DEGREES)


def test_headers_names_of_rows_marks_and_ends_of_lines():
    plain = table(DEGREES, ";", comma=True)
    rows = plain.splitlines()
    header = "File;yard.jpg\nEmissivity;0,95\nSize;16;12\n\n"
    for text in (
        plain.replace("\n", ";\r\n"),
        "\ufeff" + plain,
        plain.encode("utf-16"),
        header + plain,
        "\n".join(["Frame 1;" + rows[0], *(";" + row for row in rows[1:])]),
        "\n".join(f"row {i};{row}" for i, row in enumerate(rows)),
        "\n".join([";" + ";".join(map(str, range(16))), *(f"{i};{row}" for i, row in enumerate(rows))]),  # pandas
        '"' + plain.replace(";", '";"').replace("\n", '"\n"').removesuffix('"'),
    ):
        assert np.array_equal(read(text), DEGREES)


def test_a_table_of_degrees_is_the_infrared_picture_of_its_array():
    picture = thermal.load(table(DEGREES, ";", comma=True).encode())
    assert picture.encoding == "radiometric"
    assert (picture.values - thermal.load(DEGREES).values).abs().max() == 0
    whole = DEGREES.round()
    assert (thermal.load(table(whole, ";", form="%d").encode()).values == thermal.load(whole).values).all()


def test_whole_numbers_of_depth_are_millimetres_and_others_metres():
    millimetres = np.random.default_rng(1).integers(500, 70_000, (12, 16))
    millimetres[0, :3] = 0
    camera = dict(sensor="xtion")
    wanted = depth.load(millimetres.astype(np.int32), **camera).metres
    blank = table(millimetres, ",", form="%d").replace("\n0,0,0", "\n,,").replace("0,0,0", ",,", 1)
    for text in (table(millimetres, ",", form="%d"), blank):
        assert np.array_equal(depth.load(text.encode(), **camera).metres, wanted, equal_nan=True)
    metres = depth.load(table(millimetres / 1000, ",").encode(), **camera).metres
    assert np.allclose(metres, wanted, rtol=1e-6, equal_nan=True)


def test_blank_cells_of_decimals_are_holes_and_no_temperatures():
    text = table(DEGREES + 10, ";").replace(";", ";;", 1).replace("\n", ";1.5\n").replace(";1.5\n", "\n", 1)
    values = read(text)
    assert np.isnan(values).sum() == 1 and values.shape == (12, 17)
    with pytest.raises(NonFiniteError, match="NaN"):
        thermal.load(text.encode())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1;2;3\n4;5;6\n7;8\n", "bytes: line 3 has 2 cells, those before have 3"),
        ("1;2;3\n4;5;6\n\n7;8;warm\n", "bytes: line 4: wanted numbers, got 'warm'"),
        ("1;2;3\n4;5\nno\n", "rows of numbers are not alike"),
        ("a picture in words\n", "format is not known"),
        ("1\n2\n3\n", "format is not known"),
        (b"\0\1\n1 2 3\n4 5 6\n", "format is not known"),
    ],
)
def test_other_text_is_refused(text, words):
    for load in (thermal.load, depth.load):
        with pytest.raises(UnreadableError, match=words):
            load(text.encode() if isinstance(text, str) else text)


def test_the_size_of_a_table_is_bounded():
    file = io.BytesIO(b"1;2;3\n" * 20)
    with pytest.raises(TooLargeError, match="yard.csv: .*limit is 50"):
        read_numbers(file, "yard.csv", "a depth map", limit=50)
    assert read_numbers(io.BytesIO(b"1;2;3\n" * 16), "yard.csv", "a depth map", limit=50).shape == (16, 3)


def test_whole_numbers_of_64_bits_are_still_refused_as_arrays():
    with pytest.raises(ShapeError, match="int64"):
        thermal.load(DEGREES.astype(np.int64))
