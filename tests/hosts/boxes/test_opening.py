"""One way to open a picture: whatever is handed to a detector or to the drawing, they see the same upright one."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor

from bind2gen.errors import InputError
from bind2gen.hosts.boxes.detections import Detections, Proposals
from bind2gen.hosts.boxes.detic import DeticConfig, DeticDetector, DeticModel
from bind2gen.hosts.boxes.drawing import draw_detections
from bind2gen.hosts.boxes.owl import OwlDetector
from bind2gen.hosts.boxes.rescoring import RescoringDetector, RescoringSettings
from bind2gen.hosts.boxes.windows import GridProposer
from bind2gen.hosts.boxes.yolo import YoloConfig, YoloDetector, YoloModel
from bind2gen.pipelines.detection import ImageBindDetectionPipeline
from bind2gen.preprocess.image import upright

OBJECT, GROUND = 30, 200  # grey levels
BOX = (6, 10, 22, 18)  # off the middle, so that every turn and mirror image moves it
SIZES = ((120, 80), (96, 96))
Turn = Image.Transpose
# Orientation mark -> how a camera stores the upright picture under it (EXIF 2.3, the way back of each).
STORED = {
    1: None, 2: Turn.FLIP_LEFT_RIGHT, 3: Turn.ROTATE_180, 4: Turn.FLIP_TOP_BOTTOM, 5: Turn.TRANSPOSE,
    6: Turn.ROTATE_90, 7: Turn.TRANSVERSE, 8: Turn.ROTATE_270,
}  # fmt: skip


def scene(size: tuple[int, int]) -> Image.Image:
    """A dark object on a light ground."""
    picture = Image.new("L", size, GROUND)
    picture.paste(OBJECT, BOX)
    return picture.convert("RGB")


def photographed(size: tuple[int, int], mark: int) -> Image.Image:
    """The scene as a phone stores it, read back from its file."""
    stored = scene(size) if STORED[mark] is None else scene(size).transpose(STORED[mark])
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = mark
    stored.save(file, "PNG", exif=exif)
    return Image.open(file)


def forms(size: tuple[int, int]) -> dict[str, object]:
    """The scene in every form that is taken. Under its transparent ground lies the object's own grey."""
    grey = np.asarray(scene(size).convert("L"))
    opaque = np.where(grey == OBJECT, 255, 0).astype(np.uint8)
    under = np.full_like(grey, OBJECT)
    palette = Image.fromarray((grey == OBJECT).astype(np.uint8), "P")
    palette.putpalette([OBJECT] * 6)
    palette.info["transparency"] = 0
    pixels = np.repeat(grey[..., None], 3, axis=2)
    return {
        "L": Image.fromarray(grey),
        "I;16": Image.fromarray(grey.astype(np.uint16) * 257),
        "F": Image.fromarray(grey / np.float32(255)),
        "P": palette,
        "LA": Image.merge("LA", [Image.fromarray(under), Image.fromarray(opaque)]),
        "RGBA": Image.merge("RGBA", [*[Image.fromarray(under)] * 3, Image.fromarray(opaque)]),
        "array": pixels,
        "grey array": grey,
        "16-bit array": grey.astype(np.uint16) * 257,
        "float array": pixels / np.float32(255),
        "tensor": torch.from_numpy(pixels.copy()).permute(2, 0, 1),
        "float tensor": torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1),
    }


PICTURES = {f"{w}x{h} mark {mark}": photographed((w, h), mark) for w, h in SIZES for mark in STORED} | forms(SIZES[0])


def found(size: tuple[int, int]) -> Detections:
    return Detections([BOX], [0.9], [0], ("thing",), size)


@pytest.mark.parametrize("name", PICTURES)
def test_a_box_is_drawn_around_its_object(name):
    picture = PICTURES[name]
    size = SIZES[1] if name.startswith("96x96") else SIZES[0]
    pixels = np.asarray(draw_detections(picture, found(size), min_side=1), int)
    left, top, right, bottom = BOX
    assert pixels.shape[:2] == size[::-1]
    assert abs(pixels[top:bottom, left:right] - OBJECT).max() <= 1
    assert pixels[-5:, -5:].min() >= GROUND - 1  # neither black nor what lies under the transparency


def test_pictures_that_were_turned_already_are_named_as_such():
    stored = photographed(SIZES[0], 6)
    with pytest.raises(InputError, match=r"\(80, 120\) pixels, got \(120, 80\), turned upright by its orientation"):
        draw_detections(stored, found(stored.size))
    with pytest.raises(InputError, match=r"\(9, 9\) pixels, got \(120, 80\)$"):
        draw_detections(scene(SIZES[0]), found((9, 9)))


def test_an_upright_picture_is_taken_as_it_is_and_left_alone():
    picture = scene(SIZES[0])
    before = np.asarray(picture).copy()
    assert upright(picture) is picture and upright(upright(photographed(SIZES[0], 6))).size == SIZES[0]
    draw_detections(picture, found(picture.size), min_side=1)
    assert np.array_equal(np.asarray(picture), before)


# ---- detectors ----


class Whole:
    """Proposes the whole picture."""

    def encode_image(self, image: Image.Image) -> tuple[int, int]:
        return image.size

    def propose(self, encoded: tuple[int, int], *, max_proposals: int = 256) -> Proposals:
        return Proposals([[0, 0, *encoded]], [1.0])


def colours(crops: list[Image.Image]) -> torch.Tensor:
    """(N, 12): mean colour of each quarter."""
    return torch.tensor(np.array([np.asarray(c.resize((2, 2)), np.float32).ravel() for c in crops]))


def small_detic() -> DeticDetector:
    torch.manual_seed(0)
    return DeticDetector(DeticModel(DeticConfig(
        "resnet", (1, 1, 1, 1), (8, 8, 8, 8), fpn_width=16, fc_width=16, mask_width=0, embed_dim=8, norm_groups=4,
        short_side=48, long_side=64, stage_weights=(10.0,), proposals=5,
    )))  # fmt: skip


def small_owl() -> OwlDetector:
    """Without a text tower's tokenizer: pictures are all that is asked."""
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    torch.manual_seed(0)
    config = Owlv2Config(
        text_config=small | {"vocab_size": 9, "max_position_embeddings": 4, "bos_token_id": 7, "eos_token_id": 8},
        vision_config=small | {"image_size": 16, "patch_size": 8}, projection_dim=8,
    )  # fmt: skip
    images = Owlv2ImageProcessor(size={"height": 16, "width": 16})
    return OwlDetector(Owlv2ForObjectDetection(config), SimpleNamespace(image_processor=images))


def small_yolo() -> YoloDetector:
    torch.manual_seed(0)
    return YoloDetector(YoloModel(YoloConfig(
        (4,) * 7, squeezed=4, coarse=4, lateral=4, fine=4, answers=2, context=2, embed_dim=4, long_side=64,
        objectness=1e-6,
    )))  # fmt: skip


DETECTORS = {
    "grid": GridProposer,
    "rescoring": lambda: RescoringDetector(Whole(), colours, embed_dim=12, settings=RescoringSettings(margin=0)),
    "detic": small_detic,
    "owl": small_owl,
    "yolo": small_yolo,
}


def values(encoded: object) -> list[torch.Tensor]:
    """What a detector knows of a picture, as tensors."""
    if isinstance(encoded, tuple):
        return [torch.tensor(encoded)]
    names = ("boxes", "embeds", "features", "regions", "vectors", "image_size")
    return [torch.as_tensor(getattr(encoded, name)) for name in names if hasattr(encoded, name)]


@pytest.mark.parametrize("make", DETECTORS.values(), ids=DETECTORS)
def test_a_detector_alone_sees_what_it_sees_in_the_pipeline(make):
    detector = make()
    encoder = SimpleNamespace(config=SimpleNamespace(embed_dim=1))
    pipe = ImageBindDetectionPipeline(detector, SimpleNamespace(encoder=encoder, route="words"))
    for name, picture in PICTURES.items():
        wanted = values(detector.encode_image(upright(picture)))
        for encoded in (detector.encode_image(picture), pipe.encode_image(picture)):
            for came, expected in zip(values(encoded), wanted, strict=True):
                assert torch.equal(came, expected), name


@pytest.mark.parametrize(
    ("name", "meant"),
    [("image_input", "like"), ("picture", "like"), ("sound", "audio"), ("audio_input", "audio"), ("txt", "text")],
)
def test_a_wrong_keyword_of_a_prompt_names_the_right_one(name, meant):
    encoder = SimpleNamespace(config=SimpleNamespace(embed_dim=1))
    pipe = ImageBindDetectionPipeline(GridProposer(), SimpleNamespace(encoder=encoder, route="words"))
    with pytest.raises(InputError, match=rf"^{name}=: no such argument; .*; did you mean {meant}=\?$"):
        pipe("street.jpg", **{name: "a dog"})
