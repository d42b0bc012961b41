"""The container, the Space and the command agree with the project that they are made of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from bind2gen.cli import build_parser, demo, main
from bind2gen.files.bundled import example_sounds
from bind2gen.hosts.boxes.detic import DeticConfig, DeticDetector, DeticModel
from bind2gen.studio.scenes import read_scenes

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "demos" / "space"
SPACE_COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}  # of the hub's documentation
LONGEST_DESCRIPTION = 60  # characters, the hub's bound


def pins(path):
    """Name -> version of the ``name==version`` lines."""
    lines = re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lines}


def front_matter():
    _, block, _ = (SPACE / "README.md").read_text().split("---\n", 2)
    return {key: value.strip().strip('"') for key, value in (line.split(":", 1) for line in block.splitlines())}


def test_the_space_names_what_is_there():
    about, tested = front_matter(), pins(ROOT / "constraints.txt")
    assert about["sdk"] == "gradio" and about["sdk_version"] == tested["gradio"]
    assert (ROOT / about["app_file"]).is_file()
    assert {about["colorFrom"], about["colorTo"]} <= SPACE_COLOURS
    assert len(about["short_description"]) <= LONGEST_DESCRIPTION
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.sub(r"[-_.]+", "-", re.match(r"[\w-]+", one)[0]).lower() for one in project["dependencies"]}
    installed = pins(SPACE / "requirements.txt")
    assert set(installed) == wanted
    assert installed.items() <= tested.items()


def test_the_container_copies_what_is_there_and_does_not_run_as_root():
    text = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source.split('/')[0]}" in ignored  # or it would not reach the build
    final = text.split("\nFROM ")[-1]
    assert re.search(r"^USER (?!root)\w+", final, re.MULTILINE) and "HEALTHCHECK" in final
    assert final.index("USER ") < final.index("ENTRYPOINT")
    assert f"EXPOSE {demo.PORT}" in final and "GRADIO_SERVER_NAME=0.0.0.0" in final


@pytest.mark.parametrize("words", [[str(ROOT / "demos" / "app.py")], ["-m", "bind2gen", "demo"]])
def test_both_ways_to_start_know_the_demos(words, tmp_path):
    environment = os.environ | {"PYTHONPATH": "" if words[0].endswith(".py") else str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words, "--help"], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert all(name in done.stdout for name in (*demo.NAMES, "--share", "--port"))
    assert list(tmp_path.iterdir()) == []


def test_the_server_listens_to_this_machine_alone_unless_told(monkeypatch):
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "FORWARDED_ALLOW_IPS", "GRADIO_ROOT_PATH"):
        monkeypatch.delenv(name, raising=False)
    args = build_parser().parse_args(["demo"])
    assert (args.name, args.host, args.port, args.share) == (None, "127.0.0.1", 7860, False)
    assert args.proxies == args.root_path == ""
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "8000")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.0/8")
    monkeypatch.setenv("GRADIO_ROOT_PATH", "/tools/")
    args = build_parser().parse_args(["demo", "arithmetic"])
    assert (args.name, args.host, args.port, args.proxies) == ("arithmetic", "0.0.0.0", 8000, "10.0.0.0/8")
    assert args.root_path == "/tools"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("/tools/b2g/", "/tools/b2g"),
        ("https://host.example/b2g", "https://host.example/b2g"),
        ("tools", None),
        ("/a//b", None),
        ("/a?b", None),
        ("ftp://host/a", None),
    ],
)
def test_a_root_path_is_a_path_or_an_address(given, taken, capsys):
    if taken:
        assert build_parser().parse_args(["demo", "--root-path", given]).root_path == taken
        return
    with pytest.raises(SystemExit):
        build_parser().parse_args(["demo", "--root-path", given])
    assert "wanted a path such as /tools/b2g" in capsys.readouterr().err


def test_an_unknown_demo_and_a_missing_gradio_are_one_line(monkeypatch, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["demo", "smell2image"])
    assert leaving.value.code == 2 and "sound2image" in capsys.readouterr().err
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert main(["demo"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and 'pip install "bind2gen[demos]"' in error


def test_a_wheel_carries_the_demos_where_the_command_looks_for_them():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "demos" in wheel["only-include"] and wheel["sources"]["demos"] == "bind2gen/demos"
    assert demo.FOLDERS[0].relative_to(demo.PACKAGE.parent).as_posix() == "bind2gen/demos"
    assert wheel["exclude"] == ["demos/space", "demos/readme", "demos/examples"]


def test_every_extra_that_tests_need_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = pins(ROOT / "constraints.txt")
    named = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    assert {re.sub(r"[-_.]+", "-", re.match(r"[\w-]+", one)[0]).lower() for one in named} <= set(tested)
    assert {"playwright", "greenlet"} <= set(tested)  # the browser's tests, and what playwright needs


def test_example_pictures_are_small_and_name_bundled_sounds():
    folder = ROOT / "demos" / "pictures"
    scenes = read_scenes(folder)
    assert len(scenes) >= 3 and {scene.file for scene in scenes} == {path.name for path in folder.glob("*.webp")}
    assert {sound for scene in scenes for sound in scene.sounds} <= set(example_sounds())
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000


def test_a_model_without_a_detector_leaves_the_tab_out_and_says_how_to_get_it(tiny_folder, capsys, monkeypatch):
    args = build_parser().parse_args(["demo", "--model", str(tiny_folder)])
    assert "--detector" in demo._no_detector(args)
    bundled = build_parser().parse_args(["demo"])
    assert demo._no_detector(bundled) is None
    assert "--detector" in demo._no_detector(build_parser().parse_args(["demo", "--imagebind", "some/weights"]))
    real = ["demo", "detect", "--imagebind", "some/weights", "--detector", "Detic.pth", "--vocabulary", "names.npy"]
    assert demo._no_detector(build_parser().parse_args(real)) is None
    monkeypatch.setattr(demo, "_check_gradio", lambda: None)
    assert main(["demo", "detect", "--model", str(tiny_folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_one_option_puts_another_detector_behind_the_same_encoder(tmp_path):
    config = DeticConfig(
        "resnet", (1, 1, 1, 1), (8, 8, 8, 8), fpn_width=16, fc_width=16, mask_width=8, embed_dim=6, norm_groups=4,
        short_side=64, long_side=96, stage_weights=(10.0,), proposals=20,
    )  # fmt: skip
    DeticDetector(DeticModel(config)).save_pretrained(tmp_path / "detector")
    names = np.array(["dog", "cat", "sea"])
    np.savez(tmp_path / "words.npz", names=names, vectors=np.random.default_rng(0).normal(size=(3, 6)).astype("f4"))
    options = ["--detector", str(tmp_path / "detector"), "--vocabulary", str(tmp_path / "words.npz"), "--quiet"]
    args = build_parser().parse_args(["demo", *options, "--device", "cpu"])
    names = tuple(name for name in demo.NAMES if name != demo.SEARCH)
    studios = demo._studios(args, names)
    try:
        assert list(studios) == list(names) and studios["sound2image"] is studios["arithmetic"]
        detecting = studios["detect"]
        assert detecting.pipe.prompter.encoder is studios["sound2image"].pipe.imagebind  # loaded once
        assert detecting.worker is studios["sound2image"].worker
        *_, found = detecting.find(str(ROOT / "demos" / "pictures" / "three.webp"), words="a dog")
        assert next(iter(found.prompts[0].nearest)) == "dog"
    finally:
        studios["sound2image"].close()
