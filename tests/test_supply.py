"""What the project stands on, and what it is installed from.

Every package that is imported is declared, every declared one is used, all may be used; wheel and sdist work alone.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMES = {  # of imports whose distribution is called otherwise
    "PIL": "pillow", "OpenEXR": "openexr", "open_clip": "open-clip-torch", "sklearn": "scikit-learn",
    "milvus_lite": "pymilvus",
}  # fmt: skip
ONLY_WITH_WEIGHTS = {"wav2clip"}  # not on the index in a form that installs; asked for where its weights are given
MAY_BE_USED = re.compile(
    r"(Apache-2\.0( WITH LLVM-exception)?|BSD-[23]-Clause|0BSD|MIT(-0|-CMU)?|PSF-2\.0|ISC|Zlib|CC0-1\.0|BSL-1\.0"
    r"|MPL-2\.0|CNRI-Python|BSD| AND | OR |[()])+"
)
TRAINING = ("hear", "hear_lessons", "heard", "package", "thresholds")  # stages of the bundled model's recipe
OTHER_TERMS = {"flyr": "EUPL-1.2"}  # an extra of its own, which its line in pyproject says


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """Distributions that the core, or some extras, ask for."""
    asked = PROJECT["dependencies"] if not extras else [
        one for extra in extras for one in PROJECT["optional-dependencies"][extra]
    ]  # fmt: skip
    return {canonical(Requirement(one).name) for one in asked}


EXTRAS = [name for name in PROJECT["optional-dependencies"] if name != "dev"]


def imported() -> dict[str, set[str]]:
    """Distribution -> files that import it anywhere, in functions too."""
    found: dict[str, set[str]] = {}
    for file in [*ROOT.glob("bind2gen/**/*.py"), *ROOT.glob("demos/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "find_spec")):
                names = [one.value for one in node.args if isinstance(one, ast.Constant)]
            for name in (name.split(".")[0] for name in names):
                if name and name not in sys.stdlib_module_names and name not in ("bind2gen", "demos"):
                    found.setdefault(canonical(NAMES.get(name, name)), set()).add(str(file.relative_to(ROOT)))
    return found


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    found = {name: files for name, files in imported().items() if name not in ONLY_WITH_WEIGHTS}
    wanted = declared() | declared(*EXTRAS)
    assert {name: files for name, files in found.items() if name not in wanted} == {}
    assert wanted - set(found) == set()


def test_development_installs_every_extra():
    assert declared(*EXTRAS) <= declared() | declared("dev")


def test_without_extras_every_module_imports_but_those_that_are_for_one():
    """In a fresh interpreter that knows none of the extras' packages."""
    names = {name.replace("-", "_") for name in declared(*EXTRAS)} | {"sklearn", "milvus_lite"}
    hidden = sorted(names - {name.replace("-", "_") for name in declared()})
    code = (
        "import importlib, pkgutil, sys, bind2gen\n"
        f"sys.modules.update(dict.fromkeys({hidden}))\n"  # as if they were not installed
        "for one in pkgutil.walk_packages(bind2gen.__path__, 'bind2gen.'):\n"
        "    if one.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(one.name)\n"
        "    except ImportError as error: print(one.name, getattr(error, 'name', None))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    failing = dict(line.split() for line in done.stdout.splitlines())
    failing = {name: missing.split(".")[0] for name, missing in failing.items()}
    assert failing == {
        "bind2gen.evaluate.harness": "mteb", "bind2gen.evaluate.mteb": "datasets", "bind2gen.store.registry": "lancedb",
        "bind2gen.imagebind.sentence_module": "sentence_transformers",
        "bind2gen.evaluate.paper.scoring": "None",  # says which extra to install
        **dict.fromkeys((f"bind2gen.mini.{one}" for one in TRAINING), "scipy"),
    }  # fmt: skip


CONSTRAINTS = (ROOT / "constraints.txt").read_text()
# Package, version and licence, of the table of pinned packages.
PINNED = re.findall(r"^([\w.-]+)==(\S+)  # (.+)$", CONSTRAINTS, re.MULTILINE)


def test_every_pinned_package_may_be_used():
    assert re.findall(r"^([\w.-]+)==", CONSTRAINTS, re.MULTILINE) == [name for name, _, _ in PINNED]
    assert {name: said for name, _, said in PINNED if not MAY_BE_USED.fullmatch(said)} == OTHER_TERMS
    assert not declared() & set(OTHER_TERMS)


@pytest.mark.parametrize(("name", "pinned", "licence"), PINNED)
def test_the_licence_is_what_the_package_says(name, pinned, licence):
    try:
        told = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    if told["Version"].partition("+")[0] != pinned:
        pytest.skip(f"{name} {pinned} is not installed")  # another version may have another: filelock 3.16 is Unlicense
    assert told.get("License-Expression") in (None, licence)


LARGEST = 95_000_000  # bytes of a wheel; the index takes 100 MB
OFFLINE = {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def do(*words: object, **options) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """An sdist of this checkout, and the wheel that is built from that sdist alone."""
    folder = tmp_path_factory.mktemp("distributions")
    environment = os.environ | OFFLINE
    do(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT, env=environment)
    [sdist] = folder.glob("*.tar.gz")
    do(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sdist, env=environment)
    [wheel] = folder.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_a_wheel_from_the_sdist_installs_and_draws_far_from_the_checkout(distributions, tmp_path):
    _, wheel = distributions
    site = tmp_path / "site"
    do(sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel, env=os.environ | OFFLINE)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import bind2gen, bind2gen.cli as cli; "
        "print(bind2gen.__file__, bind2gen.bundled_path()); "
        "sys.exit(cli.main(['generate', '--audio', 'example:dog', '--steps', '2', '--out', 'dog.png', '--json']))"
    )
    told = do(sys.executable, "-c", code, cwd=tmp_path, env=os.environ | OFFLINE | {"PYTHONPATH": ""})
    places = told.split("\n")[0].split()
    assert all(place.startswith(str(site)) for place in places)
    assert (tmp_path / "dog.png").stat().st_size > 1000


def test_the_wheel_is_small_enough_and_holds_what_it_should(distributions):
    sdist, wheel = distributions
    assert wheel.stat().st_size <= LARGEST
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"bind2gen"}
    assert {"bind2gen/py.typed", "bind2gen/adapters/mini/NOTICE", "bind2gen/demos/app.py"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(sdist) as file:
        held = {name.split("/", 1)[1] for name in file.getnames()}
    assert {"pyproject.toml", "LICENSE", "constraints.txt", "tests/test_supply.py", "adapters/mini/NOTICE"} <= held
    assert not [name for name in held if name.startswith((".ci/", ".git/"))]
