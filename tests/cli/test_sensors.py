"""Depth, thermal and IMU inputs on the command line: options reach the loaders and the settings, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bind2gen.cli import sensors
from bind2gen.cli.arguments import INPUT_MODALITIES
from bind2gen.files.embeddings import load_embeddings
from bind2gen.modality import MODALITIES
from bind2gen.preprocess import depth, depth_files, depth_sensors, imu, thermal
from bind2gen.preprocess.imu import Stated
from bind2gen.preprocess.imu import times as imu_times
from bind2gen.preprocess.imu import units as imu_units

NEAR = 1e-5


def test_the_choices_are_those_of_the_modules_that_read():
    assert set(INPUT_MODALITIES) == set(MODALITIES)
    assert tuple(depth_sensors.SENSORS) == sensors.DEPTH_SENSORS
    assert tuple(depth_files.UNITS) == sensors.DEPTH_UNITS
    assert depth_files.ENCODINGS == sensors.DEPTH_ENCODINGS
    assert tuple(depth.CONVENTIONS) == sensors.DEPTH_CONVENTIONS
    assert depth.HOLES == sensors.DEPTH_HOLES
    assert thermal.ENCODINGS == sensors.THERMAL_ENCODINGS
    assert tuple(thermal.NORMALIZATIONS) == sensors.THERMAL_NORMALIZATIONS
    assert thermal.POLARITIES == sensors.THERMAL_POLARITIES
    assert tuple(imu_units.ACCELEROMETER_UNITS) == sensors.ACCELEROMETER_UNITS
    assert tuple(imu_units.GYROSCOPE_UNITS) == sensors.GYROSCOPE_UNITS
    assert (*imu_times.UNITS, "iso") == sensors.TIME_UNITS
    assert imu_times.HANDLINGS == sensors.TIMESTAMPS
    assert set(Stated.__dataclass_fields__) == set(sensors.STATED)


def test_help_names_every_option_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom bind2gen.cli import main\n"
        "for command in ('embed', 'inspect'):\n"
        "    try: main([command, '--help'])\n    except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'diffusers') if m in sys.modules], file=sys.stderr)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stderr.strip() == "[]"
    wanted = ("--depth-sensor", "--depth-fov", "--thermal-box", "--imu-rate", "--imu-gyroscope-columns", "--imu-axes")
    assert all(done.stdout.count(option) >= 2 for option in (*wanted, "kinect_v2", "ironbow"[:4]))


DEPTH_CASES = {
    "sensor": (["--depth-sensor", "kinect_v2"], {"sensor": "kinect_v2"}, {}),
    "fx, unit": (["--depth-fx", "500", "--depth-baseline", ".1", "--depth-unit", "0.0005"],
                 {"fx": 500.0, "baseline": 0.1, "unit": 0.0005}, {}),
    "fov, convention, holes": (
        ["--depth-fov", "60", "--depth-convention", "unrotated", "--depth-holes", "near"],
        {"fov": 60.0}, {"convention": "unrotated", "holes": "near"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DEPTH_CASES)
def test_depth_options_reach_the_loader_and_the_settings(case, run, sensed, tiny_pipeline, tmp_path):
    words, loading, settings = DEPTH_CASES[case]
    out = tmp_path / "x.npz"
    code, _, stderr = run("embed", "--depth", sensed / "wall.png", *words, "--out", out, "--quiet")
    assert (code, stderr) == (0, "")
    used = replace(tiny_pipeline.processor.depth, **settings)
    values = depth.transform(depth.load(sensed / "wall.png", settings=used, **loading), used)
    wanted = tiny_pipeline.imagebind.encode("depth", values[None, None]).detach().numpy()
    assert np.abs(load_embeddings(out).vectors["depth"] - wanted).max() < NEAR


def test_thermal_options_reach_the_loader_and_the_settings(run, sensed, tiny_pipeline, tmp_path):
    words = ["--thermal-encoding", "radiometric", "--thermal-box", "10,0,50,40", "--thermal-normalization", "half"]
    assert run("embed", "--thermal", sensed / "warm.png", *words, "--out", tmp_path / "x.npz", "--quiet")[0] == 0
    used = replace(tiny_pipeline.processor.thermal, normalization="half")
    raw = thermal.load(sensed / "warm.png", settings=used, encoding="radiometric", box=(10, 0, 50, 40))
    wanted = tiny_pipeline.imagebind.encode("thermal", thermal.transform(raw, used)[None, None]).detach().numpy()
    assert np.abs(load_embeddings(tmp_path / "x.npz").vectors["thermal"] - wanted).max() < NEAR


@pytest.mark.filterwarnings("ignore::bind2gen.errors.Bind2GenWarning")
def test_imu_options_reach_the_loader_and_the_settings(run, sensed, tiny_pipeline, tmp_path):
    columns = ["--imu-accelerometer-columns", "1", "2", "az (g)", "--imu-gyroscope-columns", "4", "5", "6"]
    words = [*columns, "--imu-rate", "50", "--imu-accelerometer-unit", "m/s^2", "--imu-gyroscope-unit", "deg/s",
             "--imu-axes=y-xz", "--imu-flip-accelerometer"]  # fmt: skip
    assert run("embed", "--imu", sensed / "walk.csv", *words, "--out", tmp_path / "x.npz", "--quiet")[0] == 0
    used = replace(tiny_pipeline.processor.imu, axes="y-xz", flip_accelerometer=True)
    named = {"accelerometer": (1, 2, "az (g)"), "gyroscope": (4, 5, 6)}
    raw = imu.load(
        sensed / "walk.csv", settings=used, columns=named, sampling_rate=50.0, accelerometer_unit="m/s^2",
        gyroscope_unit="deg/s",
    )  # fmt: skip
    wanted = tiny_pipeline.imagebind.encode("imu", imu.transform(raw, used)[None]).detach().numpy()
    assert np.abs(load_embeddings(tmp_path / "x.npz").vectors["imu"] - wanted).max() < NEAR


def test_generate_blends_sensors_and_names_pictures_after_files_and_folders(run, sensed, tmp_path):
    phone = tmp_path / "walk.2024"
    phone.mkdir()
    rows = np.arange(300)[:, None] * [10.0, 0, 0, 0] + [0, 0.1, 0.2, 9.8]
    rows[:, 1] += np.sin(np.arange(300))
    for name in ("Accelerometer", "Gyroscope"):
        np.savetxt(phone / f"{name}.csv", rows, delimiter=",", header="time (ms),x,y,z", comments="")
        rows = rows * [1, 0.1, 0.1, 0.01]
    words = ["--depth", sensed / "wall.png", "--depth-sensor", "xtion", "--weight", "depth=0.5", "--steps", "2"]
    code, stdout, stderr = run("generate", "--imu", phone, *words, "--quiet", "--out", tmp_path / "new", "--json")
    assert code == 0, stderr
    assert Image.open(tmp_path / "new" / "wall.png").text["inputs"] == '{"depth": "wall.png", "imu": "walk.2024"}'
    code, stdout, stderr = run("generate", "--imu", phone, "--steps", "2", "--out", tmp_path / "new")
    assert (code, stdout) == (0, f"{tmp_path / 'new' / 'walk.2024.png'}\n"), stderr


USAGE_ERRORS = {
    "unknown sensor": (["--depth", "D", "--depth-sensor", "kinect_v9"], "kinect_v9"),
    "unknown unit": (["--depth", "D", "--depth-unit", "inch"], "inch"),
    "unit of nothing": (["--depth", "D", "--depth-unit", "0"], "above zero"),
    "fx and fov": (["--depth", "D", "--depth-fx", "500", "--depth-fov", "60"], "not allowed with"),
    "view all round": (["--depth", "D", "--depth-fov", "180"], "between 0 and 180"),
    "box the wrong way": (["--thermal", "T", "--thermal-box", "5,5,1,9"], "X0 < X1"),
    "box of three": (["--thermal", "T", "--thermal-box", "5,5,9"], "X0,Y0,X1,Y1"),
    "two columns": (["--imu", "M", "--imu-gyroscope-columns", "1", "2"], "3 arguments"),
    "time alone": (["--imu", "M", "--imu-time-column", "0"], "--imu-accelerometer-columns"),
    "two axes": (["--imu", "M", "--imu-axes", "xyy"], "some order"),
    "no rate": (["--imu", "M", "--imu-rate", "0"], "above zero"),
    "option without its input": (["--text", "a", "--depth-fx", "500"], "--depth-fx: there is no depth input"),
    "rate without motion": (["--text", "a", "--imu-rate", "50"], "--imu-rate: there is no imu input"),
    "columns without motion": (["--text", "a", "--imu-accelerometer-columns", "1", "2", "3"], "no imu input"),
}


@pytest.mark.parametrize("name", USAGE_ERRORS)
def test_wrong_sensor_options_are_one_line_and_exit_code_2(name, run, tmp_path):
    words, says = USAGE_ERRORS[name]
    code, stdout, stderr = run("embed", *words, "--out", tmp_path / "x.npz")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert says in stderr
    assert list(tmp_path.iterdir()) == []


def make_bad(folder: Path) -> None:
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(folder / "eight.png")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(folder / "holes.png")
    np.save(folder / "bare.npy", np.ones((6, 50), np.float32) * 9.8)
    (folder / "counts.csv").write_text("t,ax,ay,az\n" + "".join(f"{i / 50},{i % 7},0,16384\n" for i in range(200)))
    (folder / "nameless.csv").write_text("".join(f"{i / 50},{i % 7},0,9.8,0,{i % 7},9.8\n" for i in range(200)))
    (folder / "back.csv").write_text(
        "t,ax,ay,az\n" + "".join(f"{abs(i - 50) / 50},{i % 7},0,9.8\n" for i in range(200))
    )
    (folder / "empty").mkdir()


BAD_FILES = {
    "8 bits as depth": (["--depth", "@eight.png"], "say --depth-encoding relative_inverse"),
    "nothing but holes": (["--depth", "@holes.png"], "no pixel holds a depth"),
    "folder as depth": (["--depth", "@empty"], "this is a folder"),
    "motion without a rate": (["--imu", "@bare.npy"], "give --imu-rate in Hz"),
    "raw counts": (["--imu", "@counts.csv"], "give --imu-accelerometer-unit (raw counts"),
    "columns without names": (["--imu", "@nameless.csv"], "--imu-accelerometer-columns"),
    "no such column": (["--imu", "@counts.csv", "--imu-accelerometer-columns", "a", "b", "c"], "no column 'a'"),
    "time runs backwards": (["--imu", "@back.csv"], "--imu-timestamps sort"),
    "folder without tables": (["--imu", "@empty"], "neither Accelerometer"),
    "no such folder": (["--imu", "@none"], "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_wrong_with_a_file_is_said_in_options(name, run, tmp_path):
    make_bad(tmp_path)
    words, says = BAD_FILES[name]
    before = sorted(tmp_path.rglob("*"))
    words = [word.replace("@", f"{tmp_path}/") for word in words]
    code, stdout, stderr = run("embed", *words, "--out", tmp_path / "x.npz", "--quiet")
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert says in stderr and "unexpected" not in stderr
    assert "=" not in stderr.replace("'time': 0", "")  # no arguments of Python's
    assert sorted(tmp_path.rglob("*")) == before


def test_warnings_name_options_too(run, sensed, tmp_path):
    code, _, stderr = run("embed", "--depth", sensed / "wall.png", "--out", tmp_path / "x.npz", "--quiet")
    assert code == 0
    assert stderr.startswith("bind2gen: warning: ") and stderr.count("\n") == 1
    assert "give --depth-sensor (one of kinect_v1" in stderr and "--depth-fx or --depth-fov" in stderr


def test_a_model_without_the_tower_is_refused_before_the_file_is_read(run, tiny_folder, tmp_path):
    from bind2gen.imagebind.config import TINY
    from bind2gen.imagebind.model import ImageBindModel
    from bind2gen.imagebind.processor import ImageBindProcessor

    ImageBindModel(TINY(["audio"])).save_pretrained(tmp_path / "deaf")
    ImageBindProcessor.for_config(TINY(["audio"])).save_pretrained(tmp_path / "deaf")
    (tmp_path / "text.png").write_text("no depth")
    words = ["--depth", tmp_path / "text.png", "--imagebind", tmp_path / "deaf", "--out", tmp_path / "x.npz", "--quiet"]
    code, _, stderr = run("embed", *words)
    assert code == 1 and "depth" in stderr and "text.png" not in stderr
