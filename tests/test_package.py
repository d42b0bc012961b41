"""The package as a whole: public names, lightness, metadata that must agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bind2gen
from bind2gen.errors import Bind2GenError, UnreadableError
from bind2gen.files import bundled

ROOT = Path(__file__).parents[1]
PICTURE, TABLES = str(ROOT / "demos" / "pictures" / "three.webp"), str(ROOT / "docs")
HEAVY = ("torch", "transformers", "diffusers", "numpy", "PIL", "av", "soundfile", "open_clip", "accelerate")
PUBLIC = {
    "ImageBindModel", "ImageBindConfig", "ImageBindOutput", "ImageBindProcessor", "ImageBindUnCLIPPipeline",
    "EmbeddingAdapter", "load_official_checkpoint", "convert_checkpoint", "HUGE", "TINY", "MODALITIES", "normalize",
    "blend", "slerp", "subtract", "gap_shift", "match_norm", "bundled_path", "embed_timeline", "Bind2GenError",
    "Bind2GenWarning", "ImageBindDetectionPipeline", "ClassPrompter", "Detections", "DeticDetector", "OwlDetector",
    "draw_detections", "EmbeddingIndex", "EmbeddingStore", "bind",
}  # fmt: skip


def heavy_modules_after(statements: str) -> list[str]:
    """Which heavy libraries a fresh interpreter holds after some statements."""
    code = f"{statements}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules], file=sys.__stderr__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return eval(done.stderr.strip().splitlines()[-1])


def test_public_names_are_these_and_each_resolves_to_the_object_of_its_home():
    assert set(bind2gen.__all__) == PUBLIC == set(bind2gen._HOMES)
    for name in bind2gen.__all__:
        value = getattr(bind2gen, name)
        if hasattr(value, "__module__") and hasattr(value, "__name__"):
            assert (value.__module__, value.__name__) == (f"bind2gen.{bind2gen._HOMES[name]}", name)
    assert set(bind2gen.__all__) <= set(dir(bind2gen))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="bind2gen.*Nothing"):
        bind2gen.Nothing  # noqa: B018


@pytest.mark.parametrize(
    "statements",
    [
        "import bind2gen; bind2gen.MODALITIES; bind2gen.bundled_path; bind2gen.Bind2GenError",
        "from bind2gen.cli import build_parser; build_parser().format_help()",
        "from bind2gen.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from bind2gen.cli import main\ntry: main(['generate', '--help'])\nexcept SystemExit: pass",
        "from bind2gen.cli import main; main(['generate', '--audio', 'missing.wav', '--out', 'x.png'])",
        "from bind2gen.cli import main; main(['embed', '--text', 'a', '--out', 'x.png'])",
        f"from bind2gen.cli import main; main(['detect', {PICTURE!r}, '--text', 'a', 'b', '--labels', 'one'])",
        f"from bind2gen.cli import main; main(['detect', {PICTURE!r}, '--text', 'a', '--detector', 'no.pth'])",
        f"from bind2gen.cli import main; main(['detect', {PICTURE!r}, '--text', 'a', '--model', {TABLES!r}])",
        "from bind2gen.cli import main; main(['fit-class-map', 'no_such_recipe'])",
        "from bind2gen.cli import main; main(['fit-gap', '--images', 'missing', '--out', 'gap'])",
        "from bind2gen.cli import main; main(['index', 'missing', '--db', 'db'])",
        "from bind2gen.cli import main; main(['search', '--db', 'db', '--image', 'missing.png'])",
    ],
)
def test_import_help_and_early_errors_load_no_heavy_library(statements):
    assert heavy_modules_after(statements) == []


def test_lightness_is_measured_by_something_that_can_fail():
    assert "numpy" in heavy_modules_after("import bind2gen.files.embeddings")


def test_constraints_pin_every_dependency_within_its_bounds():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    for requirement in map(Requirement, wanted):
        version = pins[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version), requirement


def test_torch_is_capped_below_the_version_that_breaks_torchaudio():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "torch>=2.11,<2.15" in project["dependencies"]


def test_type_checkers_are_told_of_the_types():
    """PEP 561: the marker lies in the package, and the wheel takes it along."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert (ROOT / "bind2gen" / "py.typed").is_file()
    assert "bind2gen" in wheel["only-include"] and not any("py" in one for one in wheel["exclude"])
    assert "Typing :: Typed" in project["project"]["classifiers"]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A stand-in for adapters/: one model with one sound, and a folder that is no model."""
    sounds = tmp_path / "adapters" / "mini" / "sounds"
    sounds.mkdir(parents=True)
    (sounds / "dog.flac").write_bytes(b"x")
    (sounds / "notes.txt").write_bytes(b"x")
    (sounds.parent / "model_index.json").write_text("{}")
    (tmp_path / "adapters" / "recipes").mkdir()
    monkeypatch.setattr(bundled, "ROOTS", (tmp_path / "nowhere", tmp_path / "adapters"))
    return tmp_path / "adapters"


def test_bundled_models_and_sounds_are_found(bundle):
    assert bundled.bundled_path("mini") == bundled.bundled_path() == bundle / "mini"
    assert bundled.bundled_names() == ["mini"]
    assert bundled.example_sounds() == {"dog": bundle / "mini" / "sounds" / "dog.flac"}
    assert bundled.resolve_example("example:dog") == str(bundle / "mini" / "sounds" / "dog.flac")
    assert bundled.resolve_example("dog.wav") == "dog.wav"


def test_an_installed_copy_comes_before_the_checkout(bundle, monkeypatch):
    inside = bundle.parent / "site-packages"
    (inside / "mini").mkdir(parents=True)
    (inside / "mini" / "model_index.json").write_text("{}")
    monkeypatch.setattr(bundled, "ROOTS", (inside, bundle))
    assert bundled.bundled_path("mini") == inside / "mini"


def test_absent_bundles_and_sounds_are_named_with_what_there_is(bundle, monkeypatch):
    with pytest.raises(Bind2GenError, match="'maxi'.*bundled are: mini"):
        bundled.bundled_path("maxi")
    with pytest.raises(UnreadableError, match="example:cat.*dog"):
        bundled.resolve_example("example:cat")
    monkeypatch.setattr(bundled, "ROOTS", ())
    with pytest.raises(Bind2GenError, match="reinstall"):
        bundled.bundled_path("mini")
