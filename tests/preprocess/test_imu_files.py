from __future__ import annotations

import gzip
import io
import re
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bind2gen.errors import (
    Bind2GenError,
    Bind2GenWarning,
    DependencyError,
    EmptyInputError,
    InputError,
    UnreadableError,
)
from bind2gen.preprocess import imu
from bind2gen.preprocess.imu import STANDARD_GRAVITY, ImuSettings, tables
from bind2gen.preprocess.imu.layouts import find_columns

RATE = 100.0
TIMES = np.arange(600) / RATE
WAVE = np.sin(2 * np.pi * 1.5 * TIMES)
MOTION = np.stack([WAVE, -WAVE, STANDARD_GRAVITY + WAVE, 0.5 * WAVE, WAVE, -WAVE])
DEGREES = 180 / np.pi
MINI = ImuSettings(sampling_rate=50.0, samples=100)


def written(header: str, columns: list[np.ndarray], delimiter: str = ",", form: str = "%.9g") -> bytes:
    file = io.BytesIO()
    text = header + "\n" if header else ""
    file.write(text.encode())
    np.savetxt(file, np.stack(columns, axis=1), delimiter=delimiter, fmt=form)
    return file.getvalue()


def check(recording: imu.ImuRecording, tolerance: float = 1e-4) -> None:
    """It is the known motion, in m/s^2 and rad/s, evenly spaced at 100 Hz."""
    assert recording.sampling_rate == pytest.approx(RATE, rel=1e-6) and recording.timestamps is None
    assert np.abs(recording.samples.numpy() - MOTION).max() < tolerance


A, G = MOTION[:3], MOTION[3:]
MS = 1657533977813 + TIMES * 1000
# Headers as the apps write them; each form holds the same motion.
FORMS = {
    "geotec": written("x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp", [*MOTION, MS], form="%.13g"),
    "sensorlog": written(
        "loggingSample(N),accelerometerTimestamp_sinceReboot(s),accelerometerAccelerationX(G),"
        "accelerometerAccelerationY(G),accelerometerAccelerationZ(G),motionUserAccelerationX(G),"
        "motionUserAccelerationY(G),motionUserAccelerationZ(G),motionRotationRateX(rad/s),motionRotationRateY(rad/s),"
        "motionRotationRateZ(rad/s)",
        [np.arange(600.0), 3571 + TIMES, *A / STANDARD_GRAVITY, *A * 0, *G],
    ),
    "androsensor": written(
        "ACCELEROMETER X (m/s²);ACCELEROMETER Y (m/s²);ACCELEROMETER Z (m/s²);GRAVITY X (m/s²);GRAVITY Y (m/s²);"
        "GRAVITY Z (m/s²);LINEAR ACCELERATION X (m/s²);LINEAR ACCELERATION Y (m/s²);LINEAR ACCELERATION Z (m/s²);"
        "GYROSCOPE X (rad/s);GYROSCOPE Y (rad/s);GYROSCOPE Z (rad/s);LIGHT (lux);MAGNETIC FIELD X (μT);"
        "Time since start in ms ",
        [*A, *A * 0, *A * 0, *G, TIMES, TIMES, TIMES * 1000], ";",
    ),
    "physics toolbox": written("time,gFx,gFy,gFz,wx,wy,wz", [TIMES, *A / STANDARD_GRAVITY, *G]),
    "core motion": written(
        "timestamp,attitude.roll,userAcceleration.x,userAcceleration.y,userAcceleration.z,gravity.x,gravity.y,gravity.z,"
        "rotationRate.x,rotationRate.y,rotationRate.z",
        [TIMES, TIMES, *(A - [[0], [0], [STANDARD_GRAVITY]]) / STANDARD_GRAVITY,
         0 * TIMES, 0 * TIMES, 1 + 0 * TIMES, *G],
    ),
    "degrees in brackets": written(
        "Time [us],Acc_X [g],Acc_Y [g],Acc_Z [g],Gyr_X [deg/s],Gyr_Y [deg/s],Gyr_Z [deg/s]",
        [TIMES * 1e6, *A / STANDARD_GRAVITY, *G * DEGREES],
    ),
    "units in words": written(
        "timestamp_ns\taccX_g\taccY_g\taccZ_g\tgyroX_dps\tgyroY_dps\tgyroZ_dps",
        [TIMES * 1e9, *A / STANDARD_GRAVITY, *G * DEGREES], "\t",
    ),
    "short names": written("t ax ay az gx gy gz", [TIMES, *MOTION], " "),
    "swapped order": written("gz,gy,gx,time,az,ay,ax", [*G[::-1], TIMES, *A[::-1]]),
    "semicolons and commas": written("time;ax;ay;az;gx;gy;gz", [TIMES, *MOTION], ";").replace(b".", b","),
    "comments before": b"# recorded by a phone\n# 2026\n\n" + written("time,ax,ay,az,gx,gy,gz", [TIMES, *MOTION]),
    "utf-16": written("time,ax,ay,az,gx,gy,gz", [TIMES, *MOTION]).decode().encode("utf-16"),
    "windows lines": written("time,ax,ay,az,gx,gy,gz", [TIMES, *MOTION]).replace(b"\n", b"\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_exports_of_phones_are_the_same_motion(tmp_path, form):
    path = tmp_path / "motion.csv"
    path.write_bytes(FORMS[form])
    check(imu.load(path))
    packed = tmp_path / "motion.csv.gz"
    packed.write_bytes(gzip.compress(FORMS[form]))
    check(imu.load(str(packed)))


def test_what_was_understood_is_described():
    description = imu.load(FORMS["units in words"]).description
    assert (description.accelerometer_unit, description.gyroscope_unit, description.time_unit) == ("g", "deg/s", "ns")
    assert description.columns["gyroscope"] == ("gyroX_dps", "gyroY_dps", "gyroZ_dps")
    assert description.notes == ("accelerometer in g, by the header", "gyroscope in deg/s, by the header")


@pytest.mark.parametrize("zone", ["", "Z", "+02:00"])
@pytest.mark.parametrize("separator", ["T", " "])
def test_iso_times(zone, separator):
    stamps = np.datetime64("2026-03-01T12:00:00", "ms") + np.arange(600) * np.timedelta64(10, "ms")
    rows = [
        f"{str(t).replace('T', separator)}{zone}," + ",".join(map(str, v))
        for t, v in zip(stamps, MOTION.T, strict=True)
    ]
    recording = imu.load(("timestamp,ax,ay,az,gx,gy,gz\n" + "\n".join(rows)).encode())
    check(recording)
    assert recording.description.time_unit == "iso"


def test_named_columns_and_a_file_without_names():
    data = written("", [TIMES, *MOTION])
    check(imu.load(data))
    check(imu.load(data, columns={"time": 0, "accelerometer": (1, 2, 3), "gyroscope": (4, 5, 6)}))
    with pytest.raises(InputError, match="7 columns without names.*columns="):
        imu.load(written("", [TIMES, *A, *A]))
    odd = written("clock,p,q,r,s,t,u", [TIMES, *MOTION])
    with pytest.raises(InputError, match="no accelerometer found among the columns clock, p, q"):
        imu.load(odd)
    names = {"time": "clock", "accelerometer": ("p", "q", "r"), "gyroscope": ("s", "t", "u")}
    check(imu.load(odd, columns=names))
    with pytest.raises(InputError, match="no column 'v'; there are clock, p"):
        imu.load(odd, columns=names | {"time": "v"})
    with pytest.raises(InputError, match="three columns"):
        imu.load(odd, columns={"accelerometer": "p"})


def test_stated_units_and_rate_win_over_header_and_times():
    data = written("time,ax (g),ay (g),az (g),gx,gy,gz", [TIMES * 3, *MOTION])
    with pytest.raises(InputError, match="header says g.*gravity in m/s"):
        imu.load(data)
    check(imu.load(data, accelerometer_unit="m/s^2", sampling_rate=RATE))


def test_a_header_in_radians_over_degrees_is_refused():
    data = written("time,ax,ay,az,gx (rad/s),gy (rad/s),gz (rad/s)", [TIMES, *A, *G * DEGREES * 2])
    with pytest.raises(InputError, match="header says rad/s.*gyroscope_unit='deg/s'"):
        imu.load(data)


def test_linear_acceleration_is_warned_of():
    data = written("time,linear_acc_x (m/s^2),linear_acc_y (m/s^2),linear_acc_z (m/s^2),gx,gy,gz", [TIMES, *G, *G])
    with pytest.warns(Bind2GenWarning, match="gravity taken off"):
        imu.load(data)


def test_pairs_and_folders_of_single_sensors(tmp_path):
    """Sensor Logger's order z, y, x; the gyroscope starts later and is sampled twice as often."""
    later = 0.5 + np.arange(1100) / 200
    wave = np.sin(2 * np.pi * 1.5 * later)
    first = written("time,seconds_elapsed,z,y,x", [1e9 * (1.7e9 + TIMES), TIMES, *A[::-1]], form="%.15g")
    second = written(
        "time,seconds_elapsed,z,y,x", [1e9 * (1.7e9 + later), later, -wave, wave, 0.5 * wave], form="%.15g"
    )
    (tmp_path / "TotalAcceleration.csv").write_bytes(first)
    (tmp_path / "Accelerometer.csv").write_bytes(
        written("time,seconds_elapsed,z,y,x", [TIMES, TIMES, *G], form="%.15g")
    )
    (tmp_path / "Gyroscope.csv").write_bytes(second)
    pair = imu.load((tmp_path / "TotalAcceleration.csv", tmp_path / "Gyroscope.csv"))
    folder = imu.load(tmp_path)
    assert torch.equal(pair.samples, folder.samples) and pair.sampling_rate == pytest.approx(200)
    at = 0.5 + np.arange(pair.samples.shape[1]) / 200
    expected = np.sin(2 * np.pi * 1.5 * at)
    assert np.abs(pair.samples[0].numpy() - expected)[2:-2].max() < 1e-3
    assert np.abs(pair.samples[4].numpy() - expected).max() < 1e-4
    assert at[-1] == pytest.approx(5.99, abs=0.006)


def test_pairs_that_do_not_overlap_are_refused():
    first = written("seconds_elapsed,x,y,z", [TIMES, *A])
    with pytest.raises(InputError, match="do not overlap"):
        imu.load((first, written("seconds_elapsed,x,y,z", [TIMES + 60, *G])))
    with pytest.raises(InputError, match="wanted a table of the gyroscope"):
        imu.load((first, written("seconds_elapsed,acc_x,acc_y,acc_z", [TIMES, *A])))


def test_uci_har_folders(tmp_path):
    folder = tmp_path / "train" / "Inertial Signals"
    folder.mkdir(parents=True)
    rows = MOTION[:, :512].reshape(6, 4, 128)
    for sensor, part in (("total_acc", rows[:3] / STANDARD_GRAVITY), ("body_gyro", rows[3:])):
        for axis, windows in zip("xyz", part, strict=True):
            np.savetxt(folder / f"{sensor}_{axis}_train.txt", windows, fmt="%16.7e")
    recordings = imu.load_uci_har(tmp_path / "train")
    assert len(recordings) == 4 and recordings[2].sampling_rate == 50
    assert np.abs(recordings[2].samples.numpy() - rows[:, 2]).max() < 1e-5
    assert torch.equal(imu.load(folder, row=2).samples, recordings[2].samples)
    with pytest.raises(InputError, match=r"4 windows; give row=0..3"):
        imu.load(tmp_path / "train")
    with pytest.raises(InputError, match=r"row of 0..3, got 4"):
        imu.load(folder, row=4)


def test_numpy_files(tmp_path):
    np.save(tmp_path / "motion.npy", MOTION.T)
    check(imu.load(tmp_path / "motion.npy", sampling_rate=RATE))
    np.savez(tmp_path / "a.npz", samples=MOTION, sampling_rate=RATE)
    np.savez(tmp_path / "b.npz", accelerometer=A.T, gyroscope=G, timestamps=MS)
    check(imu.load(tmp_path / "a.npz"))
    check(imu.load((tmp_path / "b.npz").read_bytes()))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableError, match="objects.npy"):
        imu.load(tmp_path / "objects.npy", sampling_rate=RATE)


def test_parquet(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ["ax", "ay", "az", "gx", "gy", "gz"]
    stamps = np.datetime64("2026-03-01T12:00:00", "ms") + np.arange(600) * np.timedelta64(10, "ms")
    for times in (TIMES, stamps):
        table = pyarrow.table({"time": times, **dict(zip(names, MOTION, strict=True))})
        parquet.write_table(table, tmp_path / "motion.parquet")
        check(imu.load(tmp_path / "motion.parquet"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DependencyError, match="pip install pyarrow"):
        imu.load(tmp_path / "motion.parquet")


def test_blanks_are_missing_values_and_a_cut_last_row_is_left_out():
    lines = FORMS["short names"].replace(b" ", b",").splitlines()
    lines[100] = b",".join(lines[100].split(b",")[:4] + [b"", b"NaN", b"null"])
    lines[-1] = lines[-1][:20]
    with pytest.warns(Bind2GenWarning, match="3 values are missing"):
        recording = imu.load(b"\n".join(lines))
    assert recording.samples.shape[1] == 599 and int(recording.samples.isnan().sum()) == 3


BAD = {
    "empty": (b"", EmptyInputError, "empty"),
    "blank": (b"\n \n", EmptyInputError, "nothing"),
    "text": (b"dear diary\nnothing moved\n", UnreadableError, "no line with three numbers"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, UnreadableError, "no table"),
    "zip": (b"PK\x03\x04" + bytes(100), UnreadableError, "unzip"),
    "header only": (b"time,ax,ay,az,gx,gy,gz\n", UnreadableError, "no line"),
    "cut gzip": (gzip.compress(FORMS["geotec"])[:5000], UnreadableError, "cut off"),
    "cut parquet": (b"PAR1" + bytes(50), UnreadableError, "Parquet"),
    "cut npy": (b"\x93NUMPY\x01\x00v\x00{'descr'", UnreadableError, "NPY"),
    "words in a column": (
        FORMS["short names"].replace(b" ", b",").replace(b"0.5,", b"half,"),
        InputError,
        "line 52.*half",
    ),
    "short row": (b"t,ax,ay,az\n0,1,2,9\n0.01,1\n0.02,1,2,9\n", UnreadableError, "line 3 has 2 columns"),
    "only a gyroscope": (written("time,gx,gy,gz", [TIMES, *G]), InputError, "no accelerometer"),
    "only times": (written("time,a,b", [TIMES, TIMES, TIMES]), InputError, "no accelerometer found"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named_errors(tmp_path, case):
    content, error, words = BAD[case]
    path = tmp_path / "bad file.csv"
    path.write_bytes(content)
    with pytest.raises(Bind2GenError, match=words) as caught:
        imu.load(path)
    assert isinstance(caught.value, error) and "bad file.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_strange_folders(tmp_path):
    with pytest.raises(UnreadableError, match="no such file"):
        imu.load(tmp_path / "no.csv")
    with pytest.raises(UnreadableError, match="neither Accelerometer and Gyroscope"):
        imu.load(tmp_path)


def test_callers_file_object_stays_open_where_it_was():
    file = io.BytesIO(FORMS["geotec"])
    file.seek(7)
    check(imu.load(file))
    assert file.tell() == 7 and not file.closed


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_files_are_read_or_named_errors(data):
    content = bytearray(
        data.draw(st.sampled_from([FORMS["geotec"], FORMS["androsensor"], gzip.compress(FORMS["geotec"])]))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        try:
            windows = imu.transform(imu.load(bytes(content)), MINI)
        except Bind2GenError as error:
            assert "\n" not in str(error)
        else:
            assert windows.shape[1:] == (6, 100) and windows.isfinite().all()


@pytest.mark.parametrize(
    ("names", "accelerometer", "gyroscope"),
    [
        (["Acceleration x (m/s^2)", "Acceleration y (m/s^2)", "Acceleration z (m/s^2)", "Time (s)"], (0, 1, 2), None),
        (["AccelX", "AccelY", "AccelZ", "GyroX", "GyroY", "GyroZ", "MagX", "MagY", "MagZ"], (0, 1, 2), (3, 4, 5)),
        (["body_acc_x", "body_acc_y", "body_acc_z", "total_acc_x", "total_acc_y", "total_acc_z"], (3, 4, 5), None),
        (["Wx", "Wy", "Wz", "Ax", "Ay", "Az"], (3, 4, 5), (0, 1, 2)),
        (["angular_velocity_x", "angular_velocity_y", "angular_velocity_z", "a.x", "a.y", "a.z"], (3, 4, 5), (0, 1, 2)),
    ],
)  # fmt: skip
def test_column_names(names, accelerometer, gyroscope):
    found = find_columns(names, "motion.csv")
    assert found.accelerometer == accelerometer and found.gyroscope == (gyroscope or ()) and not found.linear


def test_gravity_in_a_file_of_its_own_is_added_where_it_was_taken_off(tmp_path):
    """Sensor Logger without TotalAcceleration: Accelerometer.csv has none, Gravity.csv lies beside it."""
    gravity = np.stack([0 * TIMES, STANDARD_GRAVITY * 0.6 + 0 * TIMES, STANDARD_GRAVITY * 0.8 + 0 * TIMES])
    tables = {"Accelerometer": A - [[0], [0], [STANDARD_GRAVITY]], "Gyroscope": G, "Gravity": gravity}
    for name, values in tables.items():
        rows = written("time,seconds_elapsed,z,y,x", [1e9 * (1.7e9 + TIMES), TIMES, *values[::-1]], form="%.17g")
        (tmp_path / f"{name}.csv").write_bytes(rows)
    wanted = np.concatenate([tables["Accelerometer"] + gravity, G])
    for source in (tmp_path, (tmp_path / "Accelerometer.csv", str(tmp_path / "Gyroscope.csv"))):
        found = imu.load(source)
        assert np.abs(found.samples.numpy() - wanted).max() < 1e-4
        assert "linear acceleration and gravity were added" in found.description.notes
    whole = written("time,seconds_elapsed,z,y,x", [1e9 * (1.7e9 + TIMES), TIMES, *wanted[:3][::-1]], form="%.17g")
    (tmp_path / "Accelerometer.csv").write_bytes(whole)  # of an app whose accelerometer has gravity in it already
    found = imu.load(tmp_path)
    assert np.abs(found.samples.numpy() - wanted).max() < 1e-4
    assert not any("added" in note for note in found.description.notes)


def table_text(rows: int, *, delimiter: str = ",", end: str = "\n", time: str = "{:.2f}") -> str:
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (rows, 6)) + [0, 0, 9.81, 0, 0, 0]
    cells = ([time.format(k / 100), *(f"{v:.4f}" for v in row)] for k, row in enumerate(values))
    return (
        delimiter.join(("time (s)", "ax", "ay", "az", "gx", "gy", "gz"))
        + end
        + "".join(delimiter.join(row) + end for row in cells)
    )


ODD_TABLES = {
    "plain": lambda text: text, "cut in a row": lambda text: text[:-40], "no last end": lambda text: text.rstrip("\n"),
    "an empty line": lambda text: text.replace("\n0.50", "\n\n0.50"),
    "a comment": lambda text: text.replace("\n0.70", "\n# paused\n0.70"),
    "semicolons at ends": lambda text: text.replace("\n", ";\n"),
    "blanks": lambda text: text.replace("\n0.3", " \n 0.3").replace(",", ", "),
    "holes": lambda text: re.sub(r"\n(0.9.),[^,]*,", r"\n\1,,", text),
    "quotes": lambda text: text.replace("\n0.80", '\n"0.80"'), "tabs": lambda text: text.replace(",", "\t"),
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "white space": lambda text: text.replace(" (s)", "").replace(",", "   "),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_TABLES)
def test_rows_are_the_same_however_much_is_parsed_at_once(kind, tmp_path, monkeypatch):
    path = tmp_path / "walk.csv"
    path.write_bytes(ODD_TABLES[kind](table_text(300)).encode())
    with monkeypatch.context() as patched:
        patched.setattr(tables.TextTable, "_as_it_stands", lambda *_: None)  # row by row
        wanted = imu.load(path, gyroscope_unit="rad/s")
    assert 290 <= wanted.samples.shape[1] <= 300
    for letters in (200, 1 << 20):
        monkeypatch.setattr(tables, "LETTERS", letters)
        found = imu.load(path, gyroscope_unit="rad/s")
        torch.testing.assert_close(found.samples, wanted.samples, rtol=0, atol=0, equal_nan=True)
        assert found.sampling_rate == wanted.sampling_rate


def test_a_plain_table_is_parsed_as_it_stands(tmp_path, monkeypatch):
    path = tmp_path / "walk.csv"
    path.write_text(table_text(300))
    monkeypatch.setattr(tables.TextTable, "_row_by_row", None)
    assert imu.load(path, gyroscope_unit="rad/s").samples.shape == (6, 300)
