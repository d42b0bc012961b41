"""Runs of recipes: the command, what it leaves behind, and that a stop or a second process changes nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from bind2gen.errors import Bind2GenWarning
from bind2gen.files.bundled import bundled_path
from bind2gen.imagebind.config import TINY, TINY_TOWERS
from bind2gen.imagebind.embedding import embed_inputs
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.pipelines.parts import saved_adapter
from bind2gen.train import run, starting
from bind2gen.train.__main__ import main
from bind2gen.train.recipe import load_recipe
from bind2gen.train.stream import Batches

ROOT = Path(__file__).parents[2]
RECIPE = """
modality = "thermal"
temperature = 0.1
[model]
towers = "tiny"
drop_path = 0.0
[data]
workers = 0
repeat = 2
[schedule]
batch_size = 4
epochs = 3
learning_rate = 3e-3
precision = "no"
log_every = 1
save_every = 2
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def init(tmp_path) -> Path:
    """A toy with image and audio towers only, whose pictures have a size and a norm of their own."""
    torch.manual_seed(5)
    return saved_encoder(tmp_path / "init", ["image", "audio"], image={"mean": (0.5, 0.5, 0.5)})


def saved_encoder(folder: Path, modalities: list[str], **settings) -> Path:
    model = ImageBindModel(TINY(modalities))
    model.save_pretrained(folder)
    ImageBindProcessor.for_config(model.config, **settings).save_pretrained(folder)
    return folder


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "training" / "metrics.jsonl").read_text().splitlines()]


def arguments(recipe: Path, data: Path, out: Path, *more: object) -> list[str]:
    return [str(recipe), "--data", str(data), "--out", str(out), *map(str, more)]


def test_a_run_leaves_a_model_that_loads(tmp_path, recipe, init, csv_folder):
    out = tmp_path / "out"
    assert main(arguments(recipe, csv_folder(12, held_out=4), out, "--init", init)) == 0
    begun, ended = (ImageBindModel.from_pretrained(folder) for folder in (init, out))
    assert set(ended.towers) == {"vision", "audio", "thermal"}
    after = ended.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in begun.state_dict().items())  # frozen and bystanders
    assert float(ended.logit_scale("thermal")) == pytest.approx(10)
    processor = ImageBindProcessor.from_pretrained(out)
    assert processor.image.mean == (0.5, 0.5, 0.5) and not processor.disagreements(ended.config)
    logged = rows(out)
    losses = [row["loss"] for row in logged if "loss" in row]
    assert len(losses) == 12  # 8 pairs twice, three times, in batches of 4
    assert losses[-1] < losses[0]
    judged = [row["eval"] for row in logged if "eval" in row][-1]
    assert set(judged) == {"thermal_to_image_r1", "image_to_thermal_r1"}


def test_a_run_stopped_in_between_ends_with_the_same_weights(tmp_path, recipe, init, shard_folder, monkeypatch):
    data = shard_folder((5, 4))
    recipe.write_text(RECIPE.replace("workers = 0", "workers = 1").replace("drop_path = 0.0", "drop_path = 0.5"))
    assert main(arguments(recipe, data, tmp_path / "straight", "--init", init, "--steps", 7)) == 0
    whole = Batches.at

    def killed(self: Batches, step: int):
        if step == 5:
            raise KeyboardInterrupt
        return whole(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "at", killed)
        assert main(arguments(recipe, data, tmp_path / "killed", "--init", init, "--steps", 7)) == 130
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    assert main(arguments(recipe, data, tmp_path / "killed", "--init", init, "--steps", 7)) == 0
    wanted, got = (ImageBindModel.from_pretrained(tmp_path / n).state_dict() for n in ("straight", "killed"))
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())


@pytest.mark.slow
def test_two_processes_under_accelerate_equal_one(tmp_path, recipe, init, csv_folder):
    data = csv_folder(8)
    assert main(arguments(recipe, data, tmp_path / "one", "--init", init, "--steps", 3)) == 0
    # accelerate starts several processes by --multi_gpu only; the variable keeps them on the CPU all the same.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [
        *launch,
        "-m",
        "bind2gen.train",
        *arguments(recipe, data, tmp_path / "two", "--init", init, "--steps", 3),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (rows(tmp_path / n) for n in ("one", "two"))
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=1e-4)
    losses = [[row["loss"] for row in logged] for logged in (one, two)]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-5) and losses[1] == pytest.approx(losses[0], rel=1e-2)
    # Adam's steps are of one size however small a gradient is, so a few weights go where rounding takes them.
    begun = starting.starting_model(load_recipe(recipe), str(init))[0]
    ended = (ImageBindModel.from_pretrained(tmp_path / n) for n in ("one", "two"))
    start, one, two = (torch.nn.utils.parameters_to_vector(m.towers["thermal"].parameters()) for m in (begun, *ended))
    assert (two - one).norm() < 0.01 * (one - start).norm()
    begun = json.loads((tmp_path / "two" / "training" / "loop.json").read_text())
    assert begun["batch_size"] == 2  # of the recipe's four pairs


def test_a_micro_batch_changes_memory_only(tmp_path, recipe, init, csv_folder, monkeypatch):
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, lr, betas: torch.optim.SGD(groups, lr=100 * lr))
    data = csv_folder(8)
    for name, more in (("whole", ""), ("parts", "micro_batch = 2\n")):
        recipe.write_text(RECIPE + more)
        assert main(arguments(recipe, data, tmp_path / name, "--init", init, "--steps", 3)) == 0
    whole, parts = (ImageBindModel.from_pretrained(tmp_path / n).state_dict() for n in ("whole", "parts"))
    begun = starting.starting_model(load_recipe(recipe), str(init))[0].state_dict()
    assert max((value - begun[name]).abs().max() for name, value in whole.items()) > 0.01  # 1e-7 is rounding
    assert all(torch.allclose(parts[name], value, rtol=0, atol=2e-6) for name, value in whole.items())


def members_of(modality: str, number: int) -> dict[str, bytes]:
    """One sample with a caption, as it lies in a shard."""
    rng, file = np.random.default_rng(number), io.BytesIO()
    if modality == "audio":
        soundfile.write(file, 0.3 * rng.normal(size=9000).clip(-3, 3), 8000, format="WAV", subtype="PCM_16")
        name, content = "wav", file.getvalue()
    elif modality == "depth":
        np.save(file, rng.uniform(0.5, 4, (40, 40)).astype(np.float32))
        name, content = "npy", file.getvalue()
    else:
        lines = ["time,ax,ay,az,gx,gy,gz"]
        lines += [
            f"{i / 100},{','.join(f'{v:.4f}' for v in rng.normal(size=6) + [0, 0, 9.8, 0, 0, 0])}" for i in range(90)
        ]
        name, content = "csv", "\n".join(lines).encode()
    return {f"{number}.{name}": content, f"{number}.txt": f"thing number {number}".encode()}


@pytest.mark.parametrize("modality", ["audio", "depth", "imu"])
def test_other_modalities_and_captions_from_shards(tmp_path, recipe, write_shard, modality):
    data = write_shard("0.tar", {k: v for i in range(4) for k, v in members_of(modality, i).items()}).parent
    extra = 'front = { sensor = "kinect_v1" }\n' if modality == "depth" else ""
    text = RECIPE.replace('"thermal"', f'"{modality}"\nanchor = "text"').replace("repeat = 2\n", f"repeat = 2\n{extra}")
    recipe.write_text(text)
    with pytest.warns(Bind2GenWarning, match="no weights given: the frozen towers are random"):
        made = run.train_recipe(load_recipe(recipe), data, tmp_path / "out", steps=3)
    logged = [row for row in rows(made) if "loss" in row]
    assert len(logged) == 3 and all(row["grad_norm"] > 0 for row in logged)  # random anchors: it need not learn them
    assert modality in ImageBindModel.from_pretrained(made).towers


def test_a_tower_that_is_there_is_trained_on(tmp_path, recipe, csv_folder):
    torch.manual_seed(6)
    saved_encoder(tmp_path / "both", ["image", "thermal"])
    model, _ = starting.starting_model(load_recipe(recipe), str(tmp_path / "both"))
    kept = ImageBindModel.from_pretrained(tmp_path / "both").state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    recipe.write_text(RECIPE.replace("drop_path = 0.0", "drop_path = 0.4"))
    model, _ = starting.starting_model(load_recipe(recipe), str(tmp_path / "both"))
    assert model.config.tower("thermal").drop_path == 0.4 and model.config.tower("vision").drop_path == 0.0


def test_the_processor_of_a_pipeline_goes_with_its_encoder(tmp_path, recipe, init):
    pipeline = tmp_path / "pipeline"
    (pipeline / "processor").mkdir(parents=True)
    (pipeline / "model_index.json").write_text("{}")
    (init / "processor_config.json").rename(pipeline / "processor" / "processor_config.json")
    _, processor = starting.starting_model(load_recipe(recipe), str(init.rename(pipeline / "imagebind")))
    assert processor.image.mean == (0.5, 0.5, 0.5)


def test_openclip_weights_start_a_run(tmp_path, recipe, monkeypatch):
    from dataclasses import replace

    from bind2gen.imagebind.config import ImageBindConfig
    from bind2gen.train.openclip import openclip_key

    towers = {name: replace(TINY_TOWERS[name], vocab_size=49_408 * (name == "text")) for name in ("vision", "text")}
    torch.manual_seed(1)
    theirs = {}
    for name, tower in ImageBindModel(ImageBindConfig(32, towers)).towers.items():
        for key, value in tower.named_parameters():
            value = value.detach()
            value = value.T if key == "head.projection.weight" else value
            value = value.sum(2) if key == "stem.projection.weight" else value
            theirs[openclip_key(name, key)] = value.squeeze().contiguous()
    save_file(theirs, tmp_path / "clip.safetensors")
    model, processor = starting.starting_model(load_recipe(recipe), str(tmp_path / "clip.safetensors"))
    assert set(model.towers) == {"vision", "text", "thermal"}
    ours = model.towers["vision"].head.projection.weight
    assert torch.equal(ours, theirs["visual.proj"].T) and processor.image.size == 28


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no recipe", "wanted a recipe (TOML), found no such file; bundled are imagebind_audio"),
        ("no data", "wanted a folder with pairs.csv or *.tar shards, there is none"),
        (
            "empty data",
            "wanted a folder with pairs.csv (columns image and thermal) or with *.tar shards, found neither",
        ),
        ("no weights", "the frozen towers need weights: give --init, or model.openclip in the recipe"),
        ("no init", "no such file or folder"),
        ("no anchor tower", "wanted weights with a vision tower for the anchors, these hold audio"),
        ("no processor", "wanted the processor that it was trained with"),
        ("a file", "wanted a folder, "),
        ("unreadable", "wanted at most 100 unreadable samples, met no readable one"),
        ("front", "thermal.polarity"),
        ("alone", "batch_size: wanted 2 pairs or more, of all processes together"),
        ("one pair", "wanted pairs that differ, found 1 that all belong together"),
        ("one concept", "wanted pairs that differ, found 4 that all belong together; give pairs of more concepts"),
        ("nan", "stopped at step 1: the loss is nan"),
    ],
)
def test_mistakes_are_one_line(tmp_path, recipe, init, csv_folder, capsys, monkeypatch, case, words):
    data, out, weights = csv_folder(2), tmp_path / "out", str(init)
    if case == "no recipe":
        recipe = tmp_path / "nowhere.toml"
    elif case == "no data":
        data = tmp_path / "nowhere"
    elif case == "empty data":
        (data := tmp_path / "empty").mkdir()
    elif case == "no weights":
        recipe.write_text(RECIPE.replace("tiny", "huge"))
        weights = None
    elif case == "no init":
        weights = str(tmp_path / "nowhere")
    elif case == "no anchor tower":
        weights = str(saved_encoder(tmp_path / "audio", ["audio"]))
    elif case == "no processor":
        (init / "processor_config.json").unlink()
    elif case == "a file":
        out.write_text("")
    elif case == "unreadable":
        for path in data.glob("*.png"):
            path.write_bytes(b"x")
    elif case == "front":
        recipe.write_text(RECIPE.replace("workers = 0", "workers = 0\nfront = { polarity = 'cold' }"))
        words = "polarity"
    elif case == "alone":
        recipe.write_text(RECIPE.replace("batch_size = 4", "batch_size = 1"))
    elif case == "one pair":
        data = csv_folder(1, name="single")
    elif case == "one concept":
        recipe.write_text(RECIPE.replace("workers = 0", 'workers = 0\npositives = "concept"'))
        data = csv_folder(4, name="alike")
        (data / "pairs.csv").write_text((data / "pairs.csv").read_text("utf-8-sig").replace(",odd,", ",even,"))
    elif case == "nan":
        whole = Batches.at
        spoilt = lambda self, step: replace(whole(self, step), anchors=whole(self, step).anchors / (step != 1))  # noqa: E731
        monkeypatch.setattr(Batches, "at", spoilt)
    assert main(arguments(recipe, data, out, *(["--init", weights] if weights else []))) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1 and lines[0].startswith("bind2gen: error: ") and words in lines[0], lines


def test_a_run_is_not_taken_up_with_another_recipe(tmp_path, recipe, init, csv_folder, capsys):
    data, out = csv_folder(4), tmp_path / "out"
    assert main(arguments(recipe, data, out, "--init", init, "--steps", 2)) == 0
    recipe.write_text(RECIPE.replace("learning_rate = 3e-3", "learning_rate = 1e-3"))
    assert main(arguments(recipe, data, out, "--init", init, "--steps", 2)) == 1
    assert "schedule.learning_rate was 0.003, is 0.001); give another --out" in capsys.readouterr().err
    recipe.write_text(RECIPE.replace("workers = 0", "workers = 1"))  # changes no weights
    assert main(arguments(recipe, data, out, "--init", init, "--steps", 2)) == 0


def test_the_judge_takes_only_pairs_that_say_test(csv_folder, recipe, init):
    made = load_recipe(recipe)
    model, processor = starting.starting_model(made, str(init))
    judge = run.judge_of(made, csv_folder(8, held_out=3), processor, model)
    assert len(judge.samples) == 3 and all(0 <= score <= 1 for score in judge(model.eval()).values())
    assert run.judge_of(made, csv_folder(8, name="other"), processor, model) is None


def test_wrong_command_lines_leave_as_usual(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["imagebind_audio", "--data", "d", "--out", "o", "--steps", "0"])
    assert exit.value.code == 2 and "wanted a whole number in 1..1000000000, got '0'" in capsys.readouterr().err


def test_processes_that_do_not_know_of_each_other_are_refused(tmp_path, recipe, init, csv_folder, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(arguments(recipe, csv_folder(4), tmp_path / "out", "--init", init)) == 1
    assert "wanted to be one of 2 processes (WORLD_SIZE), accelerate finds 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_take_the_place_of_the_recipes_values(tmp_path, recipe, init, csv_folder, capsys):
    out, options = tmp_path / "out", ["--batch-size", 2, "--lr", 1e-3, "--epochs", 1]
    assert main(arguments(recipe, csv_folder(4), out, "--init", init, *options)) == 0
    begun = json.loads((out / "training" / "recipe.json").read_text())
    assert [begun[f"schedule.{key}"] for key in ("batch_size", "learning_rate", "epochs")] == [2, 1e-3, 1]
    assert begun["steps"] == 4  # of 4 pairs, each twice
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n" and f"--imagebind {out} --thermal FILE" in printed.err
    del begun["model.init"]  # as a run was begun before there was such a key
    (out / "training" / "recipe.json").write_text(json.dumps(begun))
    assert main(arguments(recipe, tmp_path / "csv", out, "--init", init, *options)) == 0


def test_a_host_finds_the_means_of_what_was_trained(tmp_path, recipe, init, csv_folder):
    data, out = csv_folder(4), tmp_path / "out"
    assert main(arguments(recipe, data, out, "--init", init, "--steps", 1)) == 0
    model, processor = ImageBindModel.from_pretrained(out).eval(), ImageBindProcessor.from_pretrained(out)
    adapter = saved_adapter(out)
    assert adapter.fits(model) and set(adapter.known) == {"image", "thermal"}
    files = {"image": "{}.png", "thermal": "{}_ir.png"}
    for name, form in files.items():
        embeds = embed_inputs(model, processor, {name: [str(data / form.format(i)) for i in range(4)]})[name]
        assert torch.allclose(adapter.means[adapter.known.index(name)], embeds.mean(0), atol=1e-5)


def test_the_small_recipe_trains_the_bundled_tower_further():
    model, processor = starting.starting_model(load_recipe("small_audio"))
    bundled = ImageBindModel.from_pretrained(bundled_path() / "imagebind", modalities=["audio"]).float().state_dict()
    kept = {key: value for key, value in model.state_dict().items() if key.startswith("towers.audio")}
    assert kept and all(torch.equal(value, bundled[key]) for key, value in kept.items() if "logit_scale" not in key)
    assert processor.audio == ImageBindProcessor.from_pretrained(bundled_path() / "processor").audio
