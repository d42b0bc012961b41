"""Recipes: what ships is the paper's; what is misspelt or of the wrong type is refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bind2gen.mini
from bind2gen.errors import InputError
from bind2gen.imagebind.config import HUGE_TOWERS
from bind2gen.mini.__main__ import STAGES
from bind2gen.train.align import TEMPERATURES
from bind2gen.train.recipe import load_recipe, load_stages
from bind2gen.train.recipe_files import bundled_recipes

SMALL = """
modality = "audio"
temperature = 0.05
[schedule]
batch_size = 8
epochs = 2
learning_rate = 1e-3
"""


@pytest.mark.parametrize("modality", ["audio", "depth", "thermal", "imu"])
def test_the_papers_recipes(modality):
    recipe = load_recipe(f"imagebind_{modality}")
    assert (recipe.modality, recipe.anchor, recipe.model.towers) == (modality, "image", "huge")
    assert recipe.temperature == TEMPERATURES[modality]
    # The released weights' factors and drop paths are what they were trained with.
    assert 1 / recipe.temperature == pytest.approx(HUGE_TOWERS[modality].logit_scale)
    assert recipe.model.drop_path == HUGE_TOWERS[modality].drop_path
    assert recipe.data.repeat == (50 if modality in ("depth", "thermal") else 1)


def test_a_recipe_of_stages_is_no_run():
    path = Path(bind2gen.mini.__file__).parent / "recipe.toml"
    stages = load_stages(path)
    assert set(stages) - {"see_first"} <= set(STAGES)
    assert (stages["hear"].batch_size, stages["hear"].learning_rate) == (48, 5e-4)
    assert stages["hear"].beta2 == 0.98  # LoopConfig's own where the file says nothing
    with pytest.raises(InputError, match="holds stages of their own"):
        load_recipe(path)


def test_epochs_become_steps_and_the_batch_is_shared(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(SMALL + "warmup_epochs = 0.5\n")
    schedule = load_recipe(path).schedule
    config = schedule.loop(100, processes=4)
    assert (config.steps, config.warmup_steps, config.batch_size) == (25, 6, 2)
    assert schedule.loop(100, steps=3).steps == 3 and schedule.loop(100, steps=3).warmup_steps == 3
    with pytest.raises(InputError, match="multiple of the 3 processes, got 8"):
        schedule.loop(100, processes=3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("batch_size", "batchsize"), "[schedule] unknown keys batchsize; known are batch_size, epochs"),
        (("epochs = 2\n", ""), "[schedule] wanted the keys batch_size, epochs, learning_rate; missing are epochs"),
        (("batch_size = 8", 'batch_size = "8"'), "[schedule] batch_size: wanted a whole number, got '8'"),
        (("batch_size = 8", "batch_size = 8.0"), "[schedule] batch_size: wanted a whole number, got 8.0"),
        (("batch_size = 8", "batch_size = true"), "[schedule] batch_size: wanted a whole number, got True"),
        (("epochs = 2", "epochs = nan"), "[schedule] epochs: wanted a number, got nan"),
        (("epochs = 2", "epochs = -1"), "[schedule] epochs: wanted a number above zero, got -1"),
        (('"audio"', '"smell"'), "modality: wanted one of audio, depth, thermal, imu, got 'smell'"),
        (("temperature = 0.05", "temperature = 0"), "temperature: wanted a number above zero, got 0"),
        (("[schedule]", "[schedule.x]"), "[schedule] unknown keys x"),
        (("[schedule]", "schedule = 3\n[data]"), "[schedule] wanted a table, got 3"),
        (("[schedule]", "[["), "cannot read it"),
    ],
)
def test_mistakes_are_named(tmp_path, change, words):
    path = tmp_path / "r.toml"
    path.write_text(SMALL.replace(*change))
    with pytest.raises(InputError, match=re.escape(words)) as error:
        load_recipe(path)
    assert "r.toml" in str(error.value) and "\n" not in str(error.value)


def test_a_recipe_that_is_nowhere():
    with pytest.raises(InputError, match="nowhere: wanted a recipe.*imagebind_audio"):
        load_recipe("nowhere")
    assert len(bundled_recipes()) == 5


def test_stages_of_a_file_are_checked_too(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text("[stages.one]\nsteps = 3\nbatch_size = 2\nlearning_rate = 1\nprecision = 'fp8'\n")
    with pytest.raises(InputError, match=r"\[stages.one\] precision: wanted one of no, bf16, got 'fp8'"):
        load_stages(path)
    with pytest.raises(InputError, match=r"wanted tables \[stages.NAME\]"):
        load_stages("imagebind_audio")
