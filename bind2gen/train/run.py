"""One run of a recipe: data, model, training, and the folder that comes out."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from ..errors import EmptyInputError, InputError
from ..files.atomic import written_together, written_whole
from ..files.bundled import ADAPTER_PART
from ..files.parsed import parse_json
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..space.adapter import EmbeddingAdapter
from .align import train_modality
from .loop import step_of
from .pairs import PairSet
from .recipe import AugmentPart, Recipe
from .shards import open_pairs
from .starting import starting_model
from .stream import Batches, PairDataset, sample_shapes

TRAINING = "training"  # folder of checkpoints, metrics and curves, within that of the model
RUN_FILE, SHARDS_FILE = "recipe.json", "shards.json"
TEST_SPLIT = "test"
MEASURED = 512  # pairs that its means are measured on
AT_ONCE = 32  # held-out pairs embedded at a time
# What may differ when a run is taken up again: none of it changes the weights that come out.
FREE = ("workers", "judged", "judge_every", "max_unreadable", "log_every", "save_every")


def train_recipe(
    recipe: Recipe, data: str | Path, out: str | Path, *, init: str | None = None, steps: int | None = None
) -> Path:
    """Train a tower as a recipe says; a run that was stopped goes on from its last checkpoint.

    Under ``accelerate launch`` the recipe's batch is shared among the processes.

    Args:
        recipe: see :func:`~bind2gen.train.recipe.load_recipe`.
        data: folder with ``pairs.csv`` or ``*.tar`` shards, or a csv.
        out: gets the model and, in ``training``, checkpoints, metrics and curves.
        init: weights of the frozen towers, see :func:`~bind2gen.train.starting.starting_model`.
        steps: train so long instead of the recipe's epochs.

    Returns:
        ``out``, which ``ImageBindModel.from_pretrained`` and ``ImageBindProcessor.from_pretrained`` load.

    Raises:
        InputError: the data cannot be used, or ``out`` holds a run of another recipe.
        CheckpointError: there are no weights for the frozen towers.
    """
    data, out, state = Path(data), Path(out), _this_process()
    folder = out / TRAINING
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: wanted a folder to write to, this is a file")
    with state.main_process_first():  # it counts the samples of shards, the others read its list
        folder.mkdir(parents=True, exist_ok=True)
        pairs = _pairs(recipe, data, folder)
        _check_unlike(pairs, data)
    config = recipe.schedule.loop(len(pairs) * recipe.data.repeat, processes=state.num_processes, steps=steps)
    _check_same(recipe, len(pairs), config.steps, folder, write=state.is_main_process)
    model, processor = starting_model(recipe, init)
    shapes = sample_shapes(model, recipe.modality, recipe.anchor)
    dataset = PairDataset(pairs, recipe, processor, shapes)
    batches = Batches(dataset, model, processes=state.num_processes, process=state.process_index)
    judge = judge_of(recipe, data, processor, model) if state.is_main_process else None
    trained = train_modality(
        model, recipe.modality, batches, recipe.temperature, config, folder,
        evaluate=judge, evaluate_every=recipe.schedule.judge_every, micro_batch=recipe.schedule.micro_batch,
    )  # fmt: skip
    if state.is_main_process:
        with written_together(out) as fresh:
            trained.save_pretrained(fresh)
            processor.save_pretrained(fresh)
            if recipe.anchor == "image":
                _measured_adapter(trained, recipe, data, processor).save_pretrained(fresh / ADAPTER_PART)
    state.wait_for_everyone()
    return out


def _this_process() -> PartialState:
    """Which process this is, of how many.

    Raises:
        InputError: more were launched than accelerate knows of: each would train alone and write over the others.
    """
    # As Accelerator reads it; PartialState alone takes no notice of the variable.
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != state.num_processes:
        raise InputError(
            f"wanted to be one of {launched} processes (WORLD_SIZE), accelerate finds {state.num_processes}; "
            "on a machine without GPUs set ACCELERATE_USE_CPU=true"
        )
    return state


def _pairs(recipe: Recipe, data: Path, folder: Path | None) -> PairSet:
    return open_pairs(
        data,
        recipe.modality,
        recipe.anchor,
        split=recipe.data.split,
        by_concept=recipe.data.positives == "concept",
        buffer=recipe.data.shuffle_buffer,
        index=folder and folder / SHARDS_FILE,
    )


def _check_unlike(pairs: PairSet, data: Path) -> None:
    """Refuse pairs that all belong together: the loss has nothing to tell apart, and would train nothing to the end."""
    groups = pairs.groups()
    first = next(groups, None)
    if all(group == first for group in groups):
        raise InputError(
            f"{data}: wanted pairs that differ, found {len(pairs)} that all belong together; give pairs of more "
            'concepts, or set data.positives = "pair"'
        )


class Judge:
    """Share of held-out inputs whose nearest anchor is their own, and of anchors whose nearest input is."""

    def __init__(self, dataset: PairDataset, count: int) -> None:
        self.names = (dataset.recipe.modality, dataset.recipe.anchor)
        read = [dataset[place] for place in range(min(count, len(dataset.pairs)))]
        self.samples = [sample for sample in read if sample.input is not None and not sample.skipped]

    def __call__(self, model: ImageBindModel) -> dict[str, float]:
        modality, anchor = self.names
        inputs = self._embedded(model, modality, [s.input for s in self.samples])
        anchors = self._embedded(model, anchor, [s.anchor for s in self.samples])
        similar, own = inputs @ anchors.T, torch.arange(len(inputs), device=inputs.device)
        return {
            f"{modality}_to_{anchor}_r1": similar.argmax(1).eq(own).float().mean().item(),
            f"{anchor}_to_{modality}_r1": similar.argmax(0).eq(own).float().mean().item(),
        }

    @torch.no_grad()
    def means(self, model: ImageBindModel) -> dict[str, torch.Tensor]:
        """Mean embedding (D,) of the inputs and of the anchors."""
        clips = ([s.input for s in self.samples], [s.anchor for s in self.samples])
        embeds = (self._embedded(model, name, part) for name, part in zip(self.names, clips, strict=True))
        return {name: part.float().mean(0).cpu() for name, part in zip(self.names, embeds, strict=True)}

    @staticmethod
    def _embedded(model: ImageBindModel, name: str, clips: list[torch.Tensor]) -> torch.Tensor:
        parts = [torch.stack(clips[i : i + AT_ONCE]).to(model.device) for i in range(0, len(clips), AT_ONCE)]
        return torch.cat([model.encode(name, part) for part in parts])


def judge_of(recipe: Recipe, data: Path, processor: ImageBindProcessor, model: ImageBindModel) -> Judge | None:
    """Judges on pairs of the split ``"test"``, unaltered; None where there are none, or none are wanted."""
    if not recipe.data.judged:
        return None
    plain = replace(
        recipe,
        augment=AugmentPart(inputs=False, anchors=False),
        data=replace(recipe.data, split=TEST_SPLIT, positives="pair"),
    )
    try:
        held_out = _pairs(plain, data, None)
    except EmptyInputError:
        return None
    dataset = PairDataset(held_out, plain, processor, sample_shapes(model, recipe.modality, recipe.anchor))
    judge = Judge(dataset, recipe.data.judged)
    return judge if judge.samples else None


def _measured_adapter(
    model: ImageBindModel, recipe: Recipe, data: Path, processor: ImageBindProcessor
) -> EmbeddingAdapter:
    """Moves the tower's embeddings over the gap to images; measured on pairs that it was trained on."""
    plain = replace(recipe, augment=AugmentPart(inputs=False, anchors=False))
    dataset = PairDataset(_pairs(plain, data, None), plain, processor, sample_shapes(model, recipe.modality, "image"))
    adapter = EmbeddingAdapter.from_means(Judge(dataset, MEASURED).means(model))
    adapter.claim(model)
    return adapter


def _check_same(recipe: Recipe, pairs: int, steps: int, folder: Path, *, write: bool) -> None:
    """Refuse to go on with another recipe, data or length than a run was begun with; say what differs."""
    path = folder / RUN_FILE
    now = {"pairs": pairs, "steps": steps} | _flat(asdict(recipe))
    if step_of(folder) and path.exists():
        begun = _begun(path)
        # Runs of older versions lack keys that have come since.
        keys = [k for k in {**begun, **now} if begun.get(k) != now.get(k) and (k in begun or now[k])]
        changed = [f"{k} was {begun.get(k)}, is {now.get(k)}" for k in keys]
        if changed:
            raise InputError(f"{folder.parent}: begun otherwise ({'; '.join(changed)}); give another --out")
    elif write:
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(now, indent=1))


def _begun(path: Path) -> dict[str, Any]:
    try:
        if isinstance(found := parse_json(path.read_bytes()), dict):
            return found
        raise ValueError(f"wanted an object, got {type(found).__name__}")
    except ValueError as error:
        raise InputError(f"{path}: cannot be read ({error}); give another --out, or remove it to go on") from None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as ``schedule.batch_size`` and so on, without those that are free to change."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif key not in FREE:
            flat[prefix + key] = value
    return flat
