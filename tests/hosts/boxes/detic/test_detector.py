"""The detector's contract: pictures in, detections out, prompts cheap, bad input named."""

from __future__ import annotations

from dataclasses import replace

import detic_cases as cases
import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen import errors
from bind2gen.hosts.boxes.detic import DeticDetector, DeticModel
from bind2gen.hosts.boxes.detic.image import padded, resized_size, to_pixels

EMBEDS = cases.class_embeds()


# ---- pictures ----


@pytest.mark.parametrize(
    "size, limits, wanted",
    [
        ((640, 480), (800, 1333), (1067, 800)),
        ((480, 640), (800, 1333), (800, 1067)),
        ((1000, 300), (800, 1333), (1333, 400)),
        ((333, 500), (640, 640), (426, 640)),
        ((100, 100), (800, 1333), (800, 800)),
        ((5000, 1), (800, 1333), (1333, 1)),
    ],
)
def test_the_short_side_rules_unless_the_long_one_is_too_long(size, limits, wanted):
    assert resized_size(size, *limits) == wanted


def test_pictures_are_normalised_then_padded_with_zeros():
    config = cases.TOYS["basic"]
    white = to_pixels(Image.new("RGB", (40, 30), "white"), config, (40, 30), torch.device("cpu"))
    wanted = (255 - torch.tensor(config.pixel_mean)) / torch.tensor(config.pixel_std)
    torch.testing.assert_close(white[:, 0, 0], wanted)
    batch = padded([white, white[:, :, :33]])
    assert batch.shape == (2, 3, 32, 64)
    assert batch[0, :, 30:].abs().sum() == 0 and batch[0, :, :, 40:].abs().sum() == 0
    assert torch.equal(batch[1, :, :30, :33], white[:, :, :33])


def test_paths_arrays_tensors_and_turned_photos_are_the_same_picture(tmp_path, detector, encoded):
    image = cases.picture()
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    array = np.asarray(image)
    forms = [tmp_path / "turned.png", str(tmp_path / "turned.png"), array, array.astype(np.float32) / 255]
    forms.append(torch.from_numpy(array.copy()).permute(2, 0, 1))
    for form in forms:
        came = detector.encode_image(form)
        assert came.image_size == image.size
        assert torch.equal(came.boxes, encoded.boxes)


def test_several_pictures_at_once_are_found_in_their_own_pixels(detector):
    small, large = cases.picture(120, 90), cases.picture(200, 150)
    alone = detector.encode_image(large)
    both = detector.encode_images([small, large])
    assert [e.image_size for e in both] == [(120, 90), (200, 150)]
    apart = (both[1].boxes[:, None] - alone.boxes).abs().amax(2)  # of about equal scores any may be first
    assert len(both[1].boxes) == len(alone.boxes) and apart.amin(1).max() < 0.05  # same padding: only rounding differs
    assert detector.encode_images([]) == []


@pytest.mark.parametrize(
    "image, error",
    [
        (np.zeros((0, 5, 3), np.uint8), errors.EmptyInputError),
        (b"no picture", errors.UnreadableError),
        (b"", errors.EmptyInputError),
        ("no/such/file.jpg", errors.UnreadableError),
        (np.full((4, 4, 3), np.nan, np.float32), errors.NonFiniteError),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), errors.TooLargeError),
        (3, errors.ShapeError),
    ],
)
def test_what_is_no_picture_is_refused(detector, image, error):
    with pytest.raises(error):
        detector.encode_image(image)


def test_a_picture_of_one_pixel_and_a_strip_work(detector):
    for size in ((1, 1), (300, 2)):
        found = detector.detect(detector.encode_image(cases.picture(*size)), EMBEDS, threshold=0.0)
        assert found.image_size == size and (found.xyxy[:, 2] <= size[0]).all()


# ---- prompts ----


def test_other_prompts_do_not_run_the_network_again(detector, encoded):
    runs = []
    hooks = [m.register_forward_hook(lambda *_: runs.append(1)) for m in detector.model.modules()]
    options = {"threshold": 0.3, "masks": False, "max_detections": 10_000, "one_class_per_proposal": False}
    first = detector.detect(encoded, EMBEDS[:1], **options)
    more = detector.detect(encoded, EMBEDS, **options)
    for hook in hooks:
        hook.remove()
    assert not runs
    assert len(first) and len(more) > len(first)
    # Prompts do not compete here. Products of other sizes round differently, and scores may change places.
    assert sorted(more.of(0).xyxy.tolist()) == sorted(first.xyxy.tolist())
    np.testing.assert_allclose(more.of(0).scores, first.scores, atol=1e-6)


def test_only_the_direction_of_embeddings_counts_and_their_order_does_not(detector, encoded):
    found = detector.detect(encoded, EMBEDS, labels=tuple("abcdef"), threshold=0.4)
    scaled = detector.detect(encoded, EMBEDS * torch.tensor([[0.01], [3], [1], [100], [1], [2]]), threshold=0.4)
    np.testing.assert_allclose(scaled.scores, found.scores, atol=1e-5)
    turned = detector.detect(encoded, EMBEDS.flip(0), labels=tuple("fedcba"), threshold=0.4)
    assert sorted(turned.names) == sorted(found.names) and len(found) > 3
    assert found.scores.tolist() == sorted(found.scores, reverse=True)


def test_thresholds_one_a_prompt(detector, encoded):
    every = detector.detect(encoded, EMBEDS, threshold=0.2, masks=False, max_detections=10_000)
    limits = torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6, 1.0])
    found = detector.detect(encoded, EMBEDS, threshold=limits, masks=False, max_detections=10_000)
    assert found == every.above(limits)
    assert 0 < len(found) < len(every)
    few = detector.detect(encoded, EMBEDS, threshold=limits, masks=False, max_detections=3)
    assert few == found[:3]


def test_one_class_a_proposal_keeps_the_best_of_each_region(detector, encoded):
    scores = detector.model.scores(encoded, EMBEDS)
    one = detector.detect(encoded, EMBEDS, threshold=0.0, masks=False, max_detections=10_000)
    several = detector.detect(
        encoded, EMBEDS, threshold=0.0, masks=False, max_detections=10_000, one_class_per_proposal=False
    )
    assert len(one) <= len(scores) < len(several)
    best = torch.isin(torch.from_numpy(one.scores), scores.amax(1))
    assert bool(best.all())


def test_masks_lie_within_their_boxes_and_can_be_left_out(detector, encoded):
    found = detector.detect(encoded, EMBEDS, threshold=0.4)
    assert found.masks.shape == (len(found), 150, 200) and found.masks.any((1, 2)).sum() > len(found) / 2
    for mask, (left, top, right, bottom) in zip(found.masks, found.xyxy, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert columns.min() + 1 > left and columns.max() < right and rows.min() + 1 > top and rows.max() < bottom
    assert detector.detect(encoded, EMBEDS, threshold=0.4, masks=False).masks is None


def test_a_network_without_a_mask_head_gives_boxes_without_masks():
    torch.manual_seed(0)
    detector = DeticDetector(DeticModel(replace(cases.TOYS["basic"], mask_width=0, stage_weights=(10.0, 20.0))))
    found = detector.detect(detector.encode_image(cases.picture()), EMBEDS, threshold=0.0)
    assert found.masks is None and len(found)


def test_nothing_found_is_an_empty_result(detector, encoded):
    found = detector.detect(encoded, EMBEDS, threshold=1.0)
    assert len(found) == 0 and found.masks.shape == (0, 150, 200) and found.labels[0] == "prompt 1"
    assert len(detector.detect(encoded, EMBEDS, threshold=0.0, max_detections=0)) == 0
    nothing = replace(
        encoded,
        boxes=encoded.boxes[:0],
        regions=encoded.regions[:, :0],
        proposals=type(encoded.proposals)(encoded.boxes[:0], encoded.boxes[:0, 0]),
    )
    assert len(detector.detect(nothing, EMBEDS)) == 0 and len(detector.propose(nothing)) == 0


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"class_embeds": torch.zeros(0, 24)}, errors.EmptyInputError, "at least one"),
        ({"class_embeds": torch.zeros(2, 512)}, errors.HostError, "width 24, got 512"),
        ({"class_embeds": torch.full((2, 24), torch.nan)}, errors.NonFiniteError, "NaN"),
        ({"class_embeds": torch.eye(2, 24) * torch.tensor([[1.0], [0]])}, errors.InputError, r"all zeros .* \[1\]"),
        ({"class_embeds": EMBEDS * 1e25}, errors.NonFiniteError, "unit length"),
        ({"class_embeds": EMBEDS.double() * 1e300}, errors.NonFiniteError, "unit length"),
        ({"class_embeds": torch.zeros(24)}, errors.ShapeError, "classes, 24"),
        ({"labels": ("a",)}, errors.InputError, "wanted 6"),
        ({"threshold": torch.zeros(5)}, errors.ShapeError, "6 .one a prompt"),
        ({"threshold": "high"}, errors.InputError, "6 .one a prompt., got 'high'"),
        ({"threshold": float("nan")}, errors.NonFiniteError, "NaN"),
        ({"max_detections": -1}, errors.InputError, "0 or more"),
        ({"encoded": cases.picture()}, errors.InputError, "encode_image"),
    ],
)
def test_prompts_that_do_not_fit_are_named(detector, encoded, arguments, error, message):
    given = {"encoded": encoded, "class_embeds": EMBEDS, "labels": None} | arguments
    with pytest.raises(error, match=message):
        detector.detect(given.pop("encoded"), given.pop("class_embeds"), **given)


def test_a_picture_of_another_network_is_refused(detector, encoded):
    other = replace(encoded, regions=encoded.regions[:, :, :8])
    with pytest.raises(errors.HostError, match="another network"):
        detector.detect(other, EMBEDS)


def test_a_network_cast_after_encoding_still_draws_masks(encoded):
    wanted = cases.toy_detector().detect(encoded, EMBEDS, threshold=0.4)
    found = cases.toy_detector().to(torch.bfloat16).detect(encoded, EMBEDS, threshold=0.4)
    np.testing.assert_array_equal(found.xyxy, wanted.xyxy)
    assert (found.masks != wanted.masks).mean() < 0.01


def test_a_picture_on_another_device_is_refused(detector, encoded):
    for call in (lambda e: detector.detect(e, EMBEDS), detector.propose):
        with pytest.raises(errors.HostError, match="encoded.to"):
            call(encoded.to("meta"))


def test_no_place_that_looks_like_a_thing_gives_no_boxes():
    detector = cases.toy_detector()
    heatmap = detector.model.proposal_generator.centernet_head.agn_hm
    torch.nn.init.zeros_(heatmap.weight)
    torch.nn.init.constant_(heatmap.bias, -20.0)
    for encoded in detector.encode_images([cases.picture(), cases.picture(60, 80)]):
        assert encoded.regions.shape == (3, 0, 24)
        assert len(detector.propose(encoded)) == 0
        assert detector.detect(encoded, EMBEDS).masks.shape == (0, *encoded.image_size[::-1])


@pytest.mark.parametrize("images", [cases.picture(), "a.jpg", b"bytes"])
def test_one_picture_is_not_a_list_of_them(detector, images):
    with pytest.raises(errors.InputError, match="encode_image"):
        detector.encode_images(images)


def test_proposals_are_distinct_boxes_within_the_picture_best_first(detector, encoded):
    proposals = detector.propose(encoded)
    assert 10 < len(proposals) <= 256
    assert (proposals.xyxy >= 0).all() and (proposals.xyxy[:, 2:] <= (200, 150)).all()
    assert proposals.scores.tolist() == sorted(proposals.scores, reverse=True)
    assert detector.propose(encoded, max_proposals=5).xyxy.tolist() == proposals.xyxy[:5].tolist()


# ---- numbers and places ----


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", cases.TOYS)
def test_half_precision_finds_much_the_same(name, dtype):
    detector = cases.toy_detector(name)
    wanted = detector.encode_image(cases.picture())
    came = detector.to(dtype).encode_image(cases.picture())
    assert came.regions.dtype == torch.float32 and came.pyramid[0].dtype == dtype
    for narrow, wide in zip(came.pyramid, wanted.pyramid, strict=True):
        assert (narrow.float() - wide).norm() < 0.05 * wide.norm()
    assert len(detector.detect(came, EMBEDS, threshold=0.4).masks)


def test_overflow_in_float16_is_said():
    detector = cases.toy_detector()
    with torch.no_grad():
        detector.model.backbone.fpn_lateral3.weight.mul_(1e6)
    with pytest.raises(errors.NonFiniteError, match="bfloat16 or float32"):
        detector.to(torch.float16).encode_image(cases.picture())


@pytest.mark.parametrize("name", cases.TOYS)
def test_no_tensor_is_made_on_the_wrong_device(name):
    """On the meta device every operation that mixes in a CPU tensor fails; shapes are all that is computed."""
    with torch.device("meta"):
        model = DeticModel(cases.TOYS[name])
    pyramid = model.backbone(torch.zeros(1, 3, 64, 96, device="meta"))
    outputs = model.proposal_generator(pyramid)
    assert {p.device.type for p in pyramid} == {"meta"} == {o.distances.device.type for o in outputs}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same(encoded, detector):
    wanted = detector.detect(encoded, EMBEDS, threshold=0.3)
    there = cases.toy_detector().to("cuda")
    found = there.detect(there.encode_image(cases.picture()), EMBEDS, threshold=0.3)
    assert abs(len(found) - len(wanted)) <= 0.05 * len(wanted)
    np.testing.assert_allclose(found.scores[:10], wanted.scores[:10], atol=1e-2)
