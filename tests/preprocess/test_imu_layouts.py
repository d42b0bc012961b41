"""The same motion as every known recorder writes it. Headers are those of the recorders' own files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from bind2gen.errors import Bind2GenWarning, InputError
from bind2gen.preprocess import imu
from bind2gen.preprocess.imu import STANDARD_GRAVITY, ImuSettings
from bind2gen.preprocess.imu.layouts import LAYOUTS

RATE, EPOCH = 100.0, 1_700_000_000  # Hz; s
TIMES = np.arange(800) / RATE
MS = np.round(TIMES * 1000).astype(np.int64)
WAVE = np.sin(2 * np.pi * 1.5 * TIMES)
ROLL, SPEED = 0.8 * np.sin(np.pi / 2 * TIMES), 0.4 * np.pi * np.cos(np.pi / 2 * TIMES)  # rad, rad/s: to and fro about x
A = np.stack([0.2 * WAVE, STANDARD_GRAVITY * np.sin(ROLL), STANDARD_GRAVITY * np.cos(ROLL)])
G = np.stack([SPEED, 0.02 * WAVE, -0.03 * WAVE])
GRAVITY = A - [0.2 * WAVE, 0.1 * WAVE, 0.1 * WAVE]
IN_G, DEGREES = A / STANDARD_GRAVITY, G * 180 / np.pi
ZEROS = np.zeros_like(TIMES)
EPOCH_MS, EPOCH_NS = EPOCH * 1000 + MS, EPOCH * 10**9 + MS * 10**6
CLOCKS = [str(np.datetime64("2024-05-06T23:59:58.422") + np.timedelta64(int(ms), "ms")) for ms in MS]


def table(header: str, *columns, mark: str = ",", end: str = "") -> str:
    """Lines of text; numbers with nine digits, whole numbers and texts as they are."""
    rows = [row for part in columns for row in (part if isinstance(part, np.ndarray) and part.ndim == 2 else [part])]
    texts = [[f"{v:.9g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    lines = [mark.join(cells) + end for cells in zip(*texts, strict=True)]
    return "\n".join([header, *lines] if header else lines) + "\n"


def sensor_logger(values: np.ndarray, name: str = "z") -> str:
    names = [name.replace("Z", axis) if name != "z" else axis.lower() for axis in "ZYX"]
    return table(",".join(["time", "seconds_elapsed", *names]), EPOCH_NS, 0.25 + TIMES, values[::-1])


def mbientlab(values: np.ndarray, unit: str) -> str:
    header = f"epoc (ms),timestamp (-0500),elapsed (s),x-axis ({unit}),y-axis ({unit}),z-axis ({unit})"
    return table(header, EPOCH_MS, [c.replace(":", ".") for c in CLOCKS], TIMES, values)


def gopro(values: np.ndarray, name: str) -> str:
    return table(
        f'"cts","date","{name}","1","2","temperature [°C]"', TIMES * 1000, [f"{c}Z" for c in CLOCKS], values, 40 + ZEROS
    )


def wisdm(values: np.ndarray) -> str:
    return table("", ["1600"] * 800, ["A"] * 800, 252_207_666_810_782 + MS * 10**6, values, end=";")


ROS_HEADER = (
    "field.header.seq,field.header.stamp,field.header.frame_id,field.orientation.x,field.orientation.y,"
    "field.orientation.z,field.orientation.w,field.angular_velocity.x,field.angular_velocity.y,field.angular_velocity.z,"
    "field.linear_acceleration.x,field.linear_acceleration.y,field.linear_acceleration.z"
)
POSE = np.stack([ZEROS, ZEROS, ZEROS, ZEROS + 1])
NAMES = ["imu_link"] * 800
WIT = "Time(s)\tax(g)\tay(g)\taz(g)\twx(deg/s)\twy(deg/s)\twz(deg/s)\tAngleX(deg)\tT(°)"
RECORDS = [
    {"timestamp": float(t), "accel": a, "gyro": g} for t, a, g in zip(TIMES, A.T.tolist(), G.T.tolist(), strict=True)
]
# What a recorder writes -> its files. Of one file that is the source, of several their folder.
FILES: dict[str, dict[str, str | bytes]] = {
    "Ego4D": {"a.csv": table(
        "component_idx,component_timestamp_ms,canonical_timestamp_ms,gyro_x,gyro_y,gyro_z,accl_x,accl_y,accl_z",
        [0] * 800, TIMES * 1000 + 7, TIMES * 1000, G, A)},
    "EuRoC": {"data.csv": table(
        "#timestamp [ns],w_RS_S_x [rad s^-1],w_RS_S_y [rad s^-1],w_RS_S_z [rad s^-1],a_RS_S_x [m s^-2],"
        "a_RS_S_y [m s^-2],a_RS_S_z [m s^-2]", EPOCH_NS, G, A)},
    "EuRoC through a spreadsheet": {"data.csv": table(
        "#timestamp [ns],w_RS_S_x [rad s^-1],w_RS_S_y [rad s^-1],w_RS_S_z [rad s^-1],a_RS_S_x [m s^-2],"
        "a_RS_S_y [m s^-2],a_RS_S_z [m s^-2]", [f"{ns:.14E}".replace("E+", "E+0") for ns in EPOCH_NS], G, A)},
    "ROS": {"imu.csv": table("%time," + ROS_HEADER, EPOCH_NS, MS, EPOCH_NS, NAMES, POSE, G, A)},
    "ROS 2": {"imu.csv": table(
        "timestamp,angular_velocity_x,angular_velocity_y,angular_velocity_z,linear_acceleration_x,"
        "linear_acceleration_y,linear_acceleration_z", [f"{EPOCH + t:.2f}" for t in TIMES], G, A)},
    "Sensor Logger": {"TotalAcceleration.csv": sensor_logger(A), "Accelerometer.csv": sensor_logger(A - GRAVITY),
                      "Gyroscope.csv": sensor_logger(G)},
    "Sensor Logger and Gravity": {"Accelerometer.csv": sensor_logger(A - GRAVITY),
                                  "Gravity.csv": sensor_logger(GRAVITY),
                                  "Gyroscope.csv": sensor_logger(G), "AccelerometerUncalibrated.csv": sensor_logger(A)},
    "Sensor Logger, uncalibrated": {"Accelerometer.csv": sensor_logger(A - GRAVITY), "Gyroscope.csv": sensor_logger(G),
                                    "AccelerometerUncalibrated.csv": sensor_logger(IN_G)},
    "Sensor Logger, sensors in the names": {
        "Accelerometer.csv": sensor_logger(A - GRAVITY, "ACCELEROMETER Z (m/s²)"),
        "Gravity.csv": sensor_logger(GRAVITY, "GRAVITY Z (m/s²)"),
        "Gyroscope.csv": sensor_logger(G, "GYROSCOPE Z (rad/s)")},
    "specific force": {"f.csv": table("Time Stamp,f_x,f_y,f_z,w_x,w_y,w_z", 59_623 + TIMES, A, G)},
    "MbientLab": {"MetaWear_2024_Accelerometer_100.000Hz_1.4.4.csv": mbientlab(IN_G, "g"),
                  "MetaWear_2024_Gyroscope_100.000Hz_1.4.4.csv": mbientlab(DEGREES, "deg/s")},
    "WitMotion": {"wit.txt": "StartTime: 2024-05-06 23:59:58\n" + table(
        WIT, [" " + c[11:] for c in CLOCKS], IN_G, DEGREES, ZEROS, 20 + ZEROS, mark="\t")},
    "WitMotion in blanks": {"wit.txt": b"StartTime: 2024-05-06\n" + table(
        WIT.replace("\t", "  ").replace("deg", "°"), ["  " + c[11:] for c in CLOCKS], IN_G, DEGREES, ZEROS, 20 + ZEROS,
        mark="  ").encode("gbk")},
    "GoPro": {"GH01_HERO8-ACCL.csv": gopro(A, "Accelerometer [m/s2]"),
              "GH01_HERO8-GYRO.csv": gopro(G, "Gyroscope [rad/s]")},
    "GoPro, axes named": {"GH01-ACCL.csv": gopro(A[::-1], "Accelerometer (z,y,x) [m/s2]"),
                          "GH01-GYRO.csv": gopro(G[::-1], "Gyroscope (z,y,x) [rad/s]")},
    "GoPro, an axis in each name": {
        f"GH01-{code}.csv": table(f"cts,date,{name} (z) [{unit}],{name} (x) [{unit}],{name} (y) [{unit}]", TIMES * 1000,
                                  [f"{c}Z" for c in CLOCKS], values[[2, 0, 1]])
        for code, name, unit, values in (("ACCL", "Accelerometer", "m/s²", A), ("GYRO", "Gyroscope", "rad/s", G))},
    "WISDM": {"data_1600_accel_phone.txt": wisdm(A), "data_1600_gyro_phone.txt": wisdm(G)},
    "Xsens MTi": {"mt.txt": "// Start Time: Unknown\n// Firmware Version: 4.6\n" + table(
        "PacketCounter\tSampleTimeFine\tAcc_X\tAcc_Y\tAcc_Z\tFreeAcc_X\tFreeAcc_Y\tFreeAcc_Z\tGyr_X\tGyr_Y\tGyr_Z",
        MS // 10, 27_626 + MS * 10, A, A - GRAVITY, G, mark="\t")},
    "Xsens DOT": {"dot.csv": "DeviceTag:,7\n" + table(
        "PacketCounter,SampleTimeFine,Acc_X,Acc_Y,Acc_Z,Gyr_X,Gyr_Y,Gyr_Z", MS // 10,
        192_856_375 + MS * 1000, A, DEGREES)},
    "Shimmer": {"shimmer.csv": '"sep=\t"\n' + table(
        "Shimmer_6749_Timestamp_Unix_CAL\tShimmer_6749_Accel_LN_X_CAL\tShimmer_6749_Accel_LN_Y_CAL\t"
        "Shimmer_6749_Accel_LN_Z_CAL\tShimmer_6749_Gyro_X_CAL\tShimmer_6749_Gyro_Y_CAL\tShimmer_6749_Gyro_Z_CAL\n"
        "ms\tm/(s^2)\tm/(s^2)\tm/(s^2)\tdeg/s\tdeg/s\tdeg/s\t", EPOCH_MS, A, DEGREES, mark="\t", end="\t")},
    "Shimmer, names alone": {"shimmer.csv": table(
        "Timestamp_CAL,Accel_WR_X_CAL,Accel_WR_Y_CAL,Accel_WR_Z_CAL,Gyro_X_CAL,Gyro_Y_CAL,Gyro_Z_CAL",
        EPOCH_MS, A, DEGREES)},
    "Physics Toolbox": {"p.csv": table("time,gFx,gFy,gFz,wx,wy,wz", TIMES, IN_G, G)},
    "phyphox, German": {"Accelerometer.csv": table(
        '"Zeit (s)";"Beschleunigung x (m/s^2)";"Beschleunigung y (m/s^2)";"Beschleunigung z (m/s^2)"', TIMES, A,
        mark=";").replace(".", ","), "Gyroscope.csv": table(
        '"Zeit (s)";"Drehrate x (rad/s)";"Drehrate y (rad/s)";"Drehrate z (rad/s)";"Drehrate gesamt (rad/s)"', TIMES, G,
        SPEED, mark=";").replace(".", ",")},
    "phyphox, French": {"Accelerometer.csv": table(
        '"Temps (s)","Accélération x (m/s^2)","Accélération y (m/s^2)","Accélération z (m/s^2)"', TIMES, A),
        "Gyroscope.csv": table(
        '"Temps (s)","Gyroscope x (rad/s)","Gyroscope y (rad/s)","Gyroscope z (rad/s)"', TIMES, G)},
    "milliseconds": {"Accelerometer.csv": table("Milliseconds,X,Y,Z", MS, A),
                     "Gyroscope.csv": table("Milliseconds,X,Y,Z", MS, G)},
    "GPS seconds": {"gins.csv": table("GPST,Ax,Ay,Az,Gx,Gy,Gz", 345_600 + TIMES, A, G)},
    "JSON records": {"r.json": json.dumps(RECORDS)},
    "JSON lines": {"r.json": "\n".join(map(json.dumps, RECORDS))},
    "JSON under a key, axes by name": {"r.json": json.dumps({"device": "x", "samples": [
        {"t": r["timestamp"], "acc": dict(zip("xyz", r["accel"], strict=True)),
         "gyro": dict(zip("xyz", r["gyro"], strict=True))} for r in RECORDS]})},
    "no names, seven columns": {"n.csv": table("", EPOCH_NS, G, A)},
    "no names, blanks": {"n.txt": table("", MS, A, DEGREES, mark="  ")},
    "no names, a folder": {"Accelerometer.csv": table("", MS, A), "Gyroscope.csv": table("", MS, G)},
    "no names, numbers of rows": {"n.csv": table("", MS // 10, MS, A, G)},
    "comments at the end": {"c.csv": table("t,ax,ay,az,gx,gy,gz", TIMES, A, G) + "% Maximums 1 2 3\n% end, of, file\n"},
}  # fmt: skip
UNIT_OF_TIME = {"Xsens MTi": "100 us", "Xsens DOT": "us", "WitMotion": "iso", "GPS seconds": "s"}


def source_of(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / next(iter(files)) if len(files) == 1 else folder


@pytest.mark.parametrize("layout", FILES)
def test_the_same_motion_in_every_layout_is_the_same_tensor(tmp_path, layout):
    with warnings.catch_warnings():
        warnings.simplefilter("error", Bind2GenWarning)
        found = imu.load(source_of(tmp_path, FILES[layout]))
    wanted = np.concatenate([A, G])
    assert found.sampling_rate == pytest.approx(RATE, rel=1e-6) and found.timestamps is None
    assert np.abs(found.samples.numpy() - wanted).max() < 1e-4
    assert found.description.time_unit == UNIT_OF_TIME.get(layout, found.description.time_unit)
    name = next((row.name for row in LAYOUTS if layout.startswith(row.name) and len(FILES[layout]) == 1), "")
    assert any(f"by {name}'s layout" in note for note in found.description.notes) or not name
    assert layout.startswith(("no names", "WISDM")) == any(
        "told by their values" in note for note in found.description.notes
    )


def test_every_row_of_the_table_is_tested():
    assert {row.name for row in LAYOUTS} <= {next((r.name for r in LAYOUTS if f.startswith(r.name)), f) for f in FILES}


def test_sensor_logger_without_gravity_is_read_with_a_warning(tmp_path):
    files = {"Accelerometer.csv": sensor_logger(A - GRAVITY), "Gyroscope.csv": sensor_logger(G)}
    with pytest.warns(Bind2GenWarning, match="gravity taken off"):
        found = imu.load(source_of(tmp_path, files))
    assert np.abs(found.samples.numpy() - np.concatenate([A - GRAVITY, G])).max() < 1e-4


def test_what_the_numbers_say_outranks_linear_in_a_header():
    header = "time,linear_acceleration_x (m/s^2),linear_acceleration_y (m/s^2),linear_acceleration_z (m/s^2),gx,gy,gz"
    found = imu.load(table(header, TIMES, A, G).encode())
    assert "called linear acceleration, but gravity is in it" in found.description.notes
    bare = table("time,linear_acc_x,linear_acc_y,linear_acc_z,gx,gy,gz", TIMES, A - GRAVITY, G)
    with pytest.raises(InputError, match="cannot be told without gravity"):
        imu.load(bare.encode())


@pytest.mark.parametrize("columns", [[TIMES, A, A[::-1]], [TIMES, G, G[::-1]], [TIMES, A, G[:2]]])
def test_columns_without_names_of_two_readings_are_refused(columns):
    with pytest.raises(InputError, match="without names.*gravity's size; say which they are"):
        imu.load(table("", *columns).encode())


def test_a_gyroscope_whose_unit_nothing_tells_is_warned_of():
    still = np.stack([ZEROS, ZEROS, STANDARD_GRAVITY + 0.01 * WAVE])
    with pytest.warns(Bind2GenWarning, match=r"unit is not stated.*taken as rad/s.*give gyroscope_unit="):
        imu.load(table("time,ax,ay,az,gx,gy,gz", TIMES, still, 5 * WAVE, ZEROS, ZEROS).encode())
    known = imu.load(table("Timestamp_CAL,Accel_X_CAL,Accel_Y_CAL,Accel_Z_CAL,Gyro_X_CAL,Gyro_Y_CAL,Gyro_Z_CAL",
                           EPOCH_MS, still, 5 * WAVE, ZEROS, ZEROS).encode())  # fmt: skip
    assert known.description.gyroscope_unit == "deg/s"  # as Shimmer has it
    slower = np.concatenate([[A[0]], STANDARD_GRAVITY * np.stack([np.sin(0.4 * ROLL), np.cos(0.4 * ROLL)])])
    turned = imu.load(table("time,ax,ay,az,gx,gy,gz", TIMES, slower, DEGREES * 0.4).encode())
    assert turned.description.gyroscope_unit == "deg/s"  # by gravity's turning, with peaks of 29


def test_gravity_that_stands_while_radians_would_race_speaks_for_degrees():
    """No trend in gravity, but radians would turn it a thousand times as fast as it moves."""
    still = np.stack([0.01 * WAVE, 0.01 * WAVE, STANDARD_GRAVITY + 0 * WAVE])
    found = imu.load(table("time,ax,ay,az,gx,gy,gz", TIMES, still, 2 + 0.1 * WAVE, 0.1 * WAVE, ZEROS + WAVE).encode())
    assert found.description.gyroscope_unit == "deg/s"


def test_many_recordings_in_a_folder_are_not_mixed(tmp_path):
    files = {f"data_{n}_{s}_phone.txt": wisdm(v) for n in (1600, 1601) for s, v in (("accel", A), ("gyro", G))}
    with pytest.raises(Exception, match="neither Accelerometer and Gyroscope"):
        imu.load(source_of(tmp_path, files))


def test_a_windows_tensor_is_the_same_too(tmp_path):
    settings = ImuSettings(sampling_rate=50.0, samples=100)
    first, second = (imu.transform(imu.load(source_of(tmp_path, FILES[n])), settings) for n in ("Ego4D", "ROS"))
    assert np.abs((first - second).numpy()).max() < 1e-4
