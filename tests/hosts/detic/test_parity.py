"""The whole network against recorded values: the reference's where they are at hand, our own everywhere."""

from __future__ import annotations

import gc
import importlib.util
import json
from types import SimpleNamespace

import detic_cases as cases
import numpy as np
import pytest
import torch
from torchvision.ops import clip_boxes_to_image

from bind2gen.hosts.detic import VARIANTS, DeticDetector
from bind2gen.hosts.detic.loading import model_from_tensors

SCORES = 1e-5
BOXES = 1e-3  # pixels
MASK_PIXELS = 1e-4  # of all
NARROW = ("toy_r18", "toy_r18_1024", "toy_swin")
FULL = {"full_swinb": "swin-b", "full_r50": "resnet-50", "full_cxt": "convnext-t", "full_r18": "resnet-18"}


def difference(came, wanted) -> float:
    return float(np.abs(np.asarray(came, np.float64) - np.asarray(wanted, np.float64)).max())


def partners(found, wanted: SimpleNamespace) -> np.ndarray:
    """For each recorded box the found one of the same class whose box is nearest, among those that score the same.

    Scores one rounding apart may change places between processors, so the order is not compared.
    """
    apart = np.abs(found.xyxy[None] - wanted.boxes[:, None]).max(2)
    apart[np.abs(found.scores[None] - wanted.scores[:, None]) > SCORES] = np.inf
    apart[found.prompts[None] != wanted.prompts[:, None]] = np.inf
    best = apart.argmin(1)
    assert np.isfinite(apart.min(1)).all(), f"{np.isinf(apart.min(1)).sum()} boxes have no partner"
    assert len(set(best)) == len(best), "two boxes share a partner"
    return best


# ---- our own record, on small networks ----


@pytest.mark.parametrize("name", cases.TOYS)
def test_small_networks_give_the_recorded_boxes(name):
    golden = np.load(cases.GOLDEN)
    detector = cases.toy_detector(name).to(torch.float64)  # float32 rounds differently with threads and processors
    encoded = detector.encode_image(cases.picture())
    for i, p in enumerate(encoded.pyramid):
        assert difference(p[0, ::8, ::2, ::2], golden[f"{name}.p{i + 3}"]) < 1e-4
    assert difference(encoded.proposals.boxes, golden[f"{name}.proposals"]) < BOXES
    assert difference(encoded.proposals.scores, golden[f"{name}.objectness"]) < SCORES
    found = detector.detect(encoded, cases.class_embeds(), threshold=0.2, one_class_per_proposal=False)
    wanted = SimpleNamespace(**{k: golden[f"{name}.{k}"] for k in ("boxes", "scores", "prompts")})
    best = partners(found, wanted)
    assert len(found) == len(best)
    assert difference(found.xyxy[best], wanted.boxes) < BOXES
    masks = found.masks[best]
    assert np.abs(masks.sum((1, 2)) - golden[f"{name}.mask_area"]).sum() <= MASK_PIXELS * masks.size
    recorded = np.unpackbits(golden[f"{name}.masks"], axis=-1, count=masks.shape[2]).astype(bool)
    assert (masks[:: cases.MASKS_APART] != recorded).mean() <= MASK_PIXELS


@pytest.mark.parametrize("name", cases.TOYS)
def test_small_networks_find_the_recorded_boxes_in_single_precision(name):
    golden = np.load(cases.GOLDEN)
    detector = cases.toy_detector(name)
    found = detector.detect(
        detector.encode_image(cases.picture()), cases.class_embeds(), threshold=0.2, one_class_per_proposal=False
    )
    wanted = SimpleNamespace(**{k: golden[f"{name}.{k}"] for k in ("boxes", "scores", "prompts")})
    best = partners(found, wanted)
    assert len(found) == len(best)
    assert difference(found.xyxy[best], wanted.boxes) < 1e-2  # a random cascade magnifies rounding


# ---- the reference's record ----


@pytest.fixture
def reference(request):
    """One recorded case: a detector with the same weights, and what the reference made of the same pictures."""
    folder = cases.shared_folder()
    path = folder / f"{request.param}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not here; set BIND2GEN_SHARED to the folder that holds parity/detic")
    spec = importlib.util.spec_from_file_location("seedinit", folder / "seedinit.py")
    seedinit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seedinit)
    golden = np.load(path)
    meta, shapes = json.loads(str(golden["meta"])), json.loads(str(golden["shapes"]))
    threads = torch.get_num_threads()
    torch.set_num_threads(meta["threads"])  # rounding depends on how work is split
    model = model_from_tensors(seedinit.seeded_state(shapes, meta["seed"]), where=request.param)
    encoded = DeticDetector(model).encode_images(
        [folder / name for name in meta["images"]], short_side=meta["min_size"], long_side=meta["max_size"]
    )
    named = dict(zip(meta["opts"][::2], meta["opts"][1::2], strict=True))  # detectron2's settings of this record
    threshold = float(named.get("MODEL.ROI_HEADS.SCORE_THRESH_TEST", meta["score_thresh"]))
    yield SimpleNamespace(
        name=request.param, detector=DeticDetector(model), encoded=encoded, golden=golden, meta=meta,
        embeds=torch.from_numpy(golden["emb"]), threshold=threshold,
    )  # fmt: skip
    torch.set_num_threads(threads)
    del model, encoded
    gc.collect()


def check_proposals_and_boxes(case: SimpleNamespace, item: int, keys: SimpleNamespace) -> np.ndarray:
    """Proposals in order; detections as sets. Returns found masks in the order of the record."""
    golden, encoded = case.golden, case.encoded[item]
    assert difference(encoded.proposals.boxes, golden[keys.proposals]) < BOXES
    assert difference(encoded.proposals.scores, golden[keys.objectness]) < SCORES
    found = case.detector.detect(
        encoded, case.embeds, threshold=case.threshold, one_class_per_proposal=case.meta["one_class"]
    )
    wanted = SimpleNamespace(boxes=golden[keys.boxes], scores=golden[keys.scores], prompts=golden[keys.prompts])
    best = partners(found, wanted)
    assert len(found) == len(best)
    assert difference(found.xyxy[best], wanted.boxes) < BOXES
    return found.masks[best]


@pytest.mark.parametrize("reference", NARROW, indirect=True)
def test_narrow_networks_equal_the_reference_in_every_step(reference):
    golden = reference.golden
    for item, encoded in enumerate(reference.encoded):
        for level, p in zip((3, 4, 5), encoded.pyramid, strict=True):
            assert difference(p[0], golden[f"fpn.p{level}"][item]) < 1e-4
        size = encoded.input_size[::-1]
        final = clip_boxes_to_image(torch.from_numpy(golden[f"final.boxes.{item}"]), size)
        assert difference(encoded.boxes, final) < BOXES
        scores = reference.detector.model.scores(encoded, reference.embeds).numpy()
        wanted = golden[f"final.scores.{item}"][:, :-1]  # the last column is the background
        assert difference(scores[wanted > 0], wanted[wanted > 0]) < SCORES
        keys = SimpleNamespace(
            proposals=f"prop.boxes.{item}", objectness=f"prop.scores.{item}", boxes=f"out.boxes.{item}",
            scores=f"out.scores.{item}", prompts=f"out.classes.{item}",
        )  # fmt: skip
        masks = check_proposals_and_boxes(reference, item, keys)
        recorded = np.unpackbits(golden[f"out.masks.{item}"], axis=-1)[..., : masks.shape[2]].astype(bool)
        assert (masks != recorded).mean() <= MASK_PIXELS


def test_every_record_of_the_reference_is_compared():
    folder = cases.shared_folder()
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; set BIND2GEN_SHARED to the folder that holds parity/detic")
    assert {path.stem for path in folder.glob("*.npz")} == {*FULL, *NARROW}


def test_our_own_records_cover_every_backbone():
    assert {config.backbone for config in cases.TOYS.values()} == {config.backbone for config in VARIANTS.values()}
    assert {cases.TOYS[name].bottleneck for name in ("basic", "bottleneck")} == {False, True}
    recorded = {key.split(".")[0] for key in np.load(cases.GOLDEN).files}
    assert recorded == set(cases.TOYS)


@pytest.mark.full_size
@pytest.mark.parametrize("reference", FULL, indirect=True)
def test_full_size_networks_equal_the_reference(reference):
    assert reference.detector.config == VARIANTS[FULL[reference.name]]
    keys = SimpleNamespace(
        proposals="proposals.boxes", objectness="proposals.scores", boxes="out.boxes", scores="out.scores",
        prompts="out.classes",
    )  # fmt: skip
    masks = check_proposals_and_boxes(reference, 0, keys)
    areas = reference.golden["out.mask_area"]
    assert np.abs(masks.sum((1, 2)) - areas).sum() <= MASK_PIXELS * masks.size
