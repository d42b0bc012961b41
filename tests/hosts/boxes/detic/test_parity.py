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

from bind2gen.hosts.boxes.detic import VARIANTS, DeticDetector
from bind2gen.hosts.boxes.detic.loading import model_from_tensors
from bind2gen.hosts.boxes.detic.proposals import RawProposals

SCORES = 1e-5
BOXES = 1e-4  # of a box's longer side: each stage moves a box by parts of its size
MASK_PIXELS = 1e-4  # of all
NARROW = ("toy_r18", "toy_r18_1024", "toy_swin")
OUTPUTS = {"boxes": "boxes", "scores": "scores", "prompts": "classes"}  # ours: the reference's name
FULL = {"full_swinb": "swin-b", "full_r50": "resnet-50", "full_cxt": "convnext-t", "full_r18": "resnet-18"}


def difference(came, wanted) -> float:
    return float(np.abs(np.asarray(came, np.float64) - np.asarray(wanted, np.float64)).max())


def partners(found, wanted: SimpleNamespace) -> np.ndarray:
    """For each recorded box the found one of the same class and score that lies where it does.

    The order is not compared: scores one rounding apart change places between processors.
    """
    apart = np.abs(found.xyxy[None] - wanted.boxes[:, None]).max(2)
    apart /= (wanted.boxes[:, 2:] - wanted.boxes[:, :2]).max(1)[:, None]
    apart[np.abs(found.scores[None] - wanted.scores[:, None]) > SCORES] = np.inf
    apart[found.prompts[None] != wanted.prompts[:, None]] = np.inf
    best = apart.argmin(1)
    lost = (apart.min(1) > BOXES).sum()
    assert not lost, f"{lost} of {len(best)} boxes have no partner"
    assert len(set(best)) == len(best) == len(found.scores), "two boxes share a partner, or there are others"
    return best


def proposal_partners(found: RawProposals, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The same for proposals, which are of no class."""
    ours, theirs = np.zeros(len(found.boxes)), np.zeros(len(boxes))
    found = SimpleNamespace(xyxy=found.boxes.numpy(), scores=found.scores.numpy(), prompts=ours)
    return partners(found, SimpleNamespace(boxes=boxes, scores=scores, prompts=theirs))


# ---- our own record, on small networks ----


@pytest.mark.parametrize("name", cases.TOYS)
def test_small_networks_give_the_recorded_boxes(name):
    golden = np.load(cases.GOLDEN)
    detector = cases.toy_detector(name).to(torch.float64)  # float32 rounds differently with threads and processors
    encoded = detector.encode_image(cases.picture())
    for i, p in enumerate(encoded.pyramid):
        assert difference(p[0, ::8, ::2, ::2], golden[f"{name}.p{i + 3}"]) < 1e-4
    proposal_partners(encoded.proposals, golden[f"{name}.proposals"], golden[f"{name}.objectness"])
    found = detector.detect(encoded, cases.class_embeds(), threshold=0.2, one_class_per_proposal=False)
    wanted = SimpleNamespace(**{k: golden[f"{name}.{k}"] for k in ("boxes", "scores", "prompts")})
    masks = found.masks[partners(found, wanted)]
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
    partners(found, wanted)


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
    model = model_from_tensors(seedinit.seeded_state(shapes, meta["seed"]), where=request.param)
    model.to(torch.float64)  # only the reference rounds then, and it did so once
    encoded = DeticDetector(model).encode_images(
        [folder / name for name in meta["images"]], short_side=meta["min_size"], long_side=meta["max_size"]
    )
    named = dict(zip(meta["opts"][::2], meta["opts"][1::2], strict=True))  # detectron2's settings of this record
    threshold = float(named.get("MODEL.ROI_HEADS.SCORE_THRESH_TEST", meta["score_thresh"]))
    yield SimpleNamespace(
        name=request.param, detector=DeticDetector(model), encoded=encoded, golden=golden, meta=meta,
        embeds=torch.from_numpy(golden["emb"]), threshold=threshold,
    )  # fmt: skip
    del model, encoded
    gc.collect()


def matched_masks(case: SimpleNamespace, item: int, which: str = "") -> np.ndarray:
    """Finds the recorded boxes; gives the found masks in the order of the record. ``which`` ends the record's keys."""
    found = case.detector.detect(
        case.encoded[item], case.embeds, threshold=case.threshold, one_class_per_proposal=case.meta["one_class"]
    )
    wanted = {name: case.golden[f"out.{key}{which}"] for name, key in OUTPUTS.items()}
    return found.masks[partners(found, SimpleNamespace(**wanted))]


@pytest.mark.parametrize("reference", NARROW, indirect=True)
def test_narrow_networks_equal_the_reference_in_every_step(reference):
    golden = reference.golden
    for item, encoded in enumerate(reference.encoded):
        for level, p in zip((3, 4, 5), encoded.pyramid, strict=True):
            assert difference(p[0], golden[f"fpn.p{level}"][item]) < 1e-4
        best = proposal_partners(encoded.proposals, golden[f"prop.boxes.{item}"], golden[f"prop.scores.{item}"])
        final = clip_boxes_to_image(torch.from_numpy(golden[f"final.boxes.{item}"]), encoded.input_size[::-1])
        longer = (final[:, 2:] - final[:, :2]).amax(1, keepdim=True)
        assert difference(encoded.boxes[best] / longer, final / longer) < BOXES
        scores = reference.detector.model.scores(encoded, reference.embeds)[best].numpy()
        wanted = golden[f"final.scores.{item}"][:, :-1]  # the last column is the background
        assert difference(scores[wanted > 0], wanted[wanted > 0]) < SCORES
        masks = matched_masks(reference, item, f".{item}")
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
    golden = reference.golden
    proposal_partners(reference.encoded[0].proposals, golden["proposals.boxes"], golden["proposals.scores"])
    masks = matched_masks(reference, 0)
    areas = golden["out.mask_area"]
    assert np.abs(masks.sum((1, 2)) - areas).sum() <= MASK_PIXELS * masks.size
