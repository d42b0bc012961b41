"""OWL detectors: injected queries give what the model gives for texts; boxes land where transformers puts them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPTokenizer,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessor,
    OwlViTProcessor,
)

from bind2gen.errors import (
    Bind2GenWarning,
    CheckpointError,
    EmptyInputError,
    HostError,
    InputError,
    NonFiniteError,
    ShapeError,
)
from bind2gen.hosts.boxes.owl import OwlDetector

SIDE, PATCH, WIDTH, CONTEXT = 32, 8, 24, 8
TEXTS = ["a dog", "cab", "bad egg"]
KINDS = {
    "owlvit": (OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor, OwlViTProcessor),
    "owlv2": (Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor),
}


def picture(width: int = 60, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def tokenizer() -> CLIPTokenizer:
    """Letters only; the end mark has the highest number, for the text tower finds it by that."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["!", *(f"{c}</w>" for c in letters), *letters, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[], model_max_length=CONTEXT, pad_token="!")


def build(kind: str) -> OwlDetector:
    config, model, image_processor, processor = KINDS[kind]
    small = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    made = model(
        config(
            text_config={
                "vocab_size": 55, "hidden_size": WIDTH, "max_position_embeddings": CONTEXT,
                "bos_token_id": 53, "eos_token_id": 54, **small,
            },
            vision_config={"hidden_size": 16, "image_size": SIDE, "patch_size": PATCH, **small},
            projection_dim=WIDTH,
        )
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in made.named_parameters():  # fresh weights are so small that nothing would differ
            if "layer_norm" not in name:
                parameter.normal_(std=0.2)
    images = image_processor(size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return OwlDetector(made, processor(image_processor=images, tokenizer=tokenizer()))


@pytest.fixture(scope="module", params=list(KINDS))
def detector(request, tmp_path_factory) -> OwlDetector:
    """Through a folder, as users have it."""
    folder = tmp_path_factory.mktemp(request.param)
    build(request.param).save_pretrained(folder)
    return OwlDetector.from_pretrained(folder, local_files_only=True)


def own_output(detector: OwlDetector, image: Image.Image, texts: list[str] = TEXTS):
    """The model's own forward pass for texts."""
    inputs = detector.processor(text=[texts], images=image, return_tensors="pt", padding="max_length")
    with torch.no_grad():
        return detector.model(**inputs)


def test_injected_queries_give_the_logits_of_the_models_own_text_path(detector):
    wanted = own_output(detector, picture())
    embeds = detector.embed_text(TEXTS)
    got = detector.logits(detector.encode_image(picture()), embeds)
    assert wanted.logits[0].std() > 0.05
    assert torch.allclose(embeds, wanted.text_embeds[0], atol=1e-6)
    assert torch.allclose(got, wanted.logits[0], atol=1e-5)


def test_only_the_direction_of_queries_counts(detector):
    encoded, embeds = detector.encode_image(picture()), detector.embed_text(TEXTS)
    assert torch.allclose(detector.logits(encoded, 7 * embeds), detector.logits(encoded, embeds), atol=1e-5)


@pytest.mark.parametrize("size", [(60, 40), (33, 90)])
def test_boxes_scores_and_prompts_are_those_of_transformers_post_processing(detector, size):
    outputs = own_output(detector, picture(*size))
    wanted = detector.processor.post_process_grounded_object_detection(
        outputs, threshold=0.3, target_sizes=[size[::-1]], text_labels=[TEXTS]
    )[0]
    plain = OwlDetector(detector.model, detector.processor, nms_iou=None, one_prompt_a_box=True)
    encoded = plain.encode_image(picture(*size))
    got = plain.detect(encoded, plain.embed_text(TEXTS), labels=tuple(TEXTS), threshold=0.3)
    order = wanted["scores"].argsort(descending=True, stable=True)
    limits = torch.tensor([*size, *size])
    boxes = wanted["boxes"][order].clamp(min=0).minimum(limits)  # theirs reach into the padding and beyond the edges
    assert 0 < len(got) == len(order) and got.image_size == size and got.masks is None
    assert np.allclose(got.scores, wanted["scores"][order], atol=1e-6)
    assert np.allclose(got.xyxy, boxes, atol=1e-3)
    assert list(got.names) == [wanted["text_labels"][i] for i in order]


@pytest.mark.parametrize(("size", "unit"), [((60, 40), (60, 60)), ((40, 60), (60, 60)), ((50, 50), (50, 50))])
def test_owlv2_sees_a_padded_square_and_boxes_come_back_to_the_picture(size, unit):
    detector = build("owlv2")
    relative = torch.tensor([[0.25, 0.25, 0.1, 0.2], [0.5, 0.5, 1.0, 1.0]])
    boxes = detector._to_pixels(relative, size)
    left, top = 0.2 * unit[0], 0.15 * unit[1]
    assert torch.allclose(boxes[0], torch.tensor([left, top, 0.3 * unit[0], 0.35 * unit[1]]))
    assert boxes[1].tolist() == [0, 0, *size]


def test_owlvit_sees_a_stretched_picture():
    boxes = build("owlvit")._to_pixels(torch.tensor([[0.5, 0.5, 0.5, 0.5]]), (80, 40))
    assert boxes.tolist() == [[20, 10, 60, 30]]


def test_prompts_do_not_compete_unless_asked_to(detector):
    encoded, embeds = detector.encode_image(picture()), detector.embed_text(TEXTS)
    together = detector.detect(encoded, embeds, threshold=0.2)
    for i in range(len(TEXTS)):
        alone = detector.detect(encoded, embeds[i : i + 1], threshold=0.2)
        # Products of other sizes round differently, and scores may change places.
        assert sorted(together.of(i).xyxy.tolist()) == sorted(alone.xyxy.tolist()) and len(alone)


def test_the_threshold_can_be_one_a_prompt(detector):
    encoded, embeds = detector.encode_image(picture()), detector.embed_text(TEXTS)
    found = detector.detect(encoded, embeds, threshold=torch.tensor([0.0, 1.0, 1.0]))
    assert set(found.prompts.tolist()) == {0}
    assert len(detector.detect(encoded, embeds, threshold=1.0)) == 0


def test_owlv2_proposes_by_its_objectness_head():
    detector = build("owlv2")
    encoded, wanted = detector.encode_image(picture()), own_output(detector, picture()).objectness_logits[0]
    proposals = detector.propose(encoded)
    assert torch.allclose(encoded.objectness, wanted, atol=1e-6)
    assert proposals.scores[0] == pytest.approx(wanted.sigmoid().max().item())
    assert (np.diff(proposals.scores) <= 0).all() and len(detector.propose(encoded, max_proposals=2)) == 2


def test_owlvit_proposes_by_its_best_answer_to_general_queries():
    detector = build("owlvit")
    encoded = detector.encode_image(picture())
    best = detector.logits(encoded, detector._anything).sigmoid().max().item()
    assert encoded.objectness is None and detector.propose(encoded).scores[0] == pytest.approx(best)


def test_long_texts_are_cut_with_a_warning(detector):
    with pytest.warns(Bind2GenWarning, match=f"{CONTEXT} tokens"):
        long = detector.embed_text(["a b c d e f g h"])
    assert torch.equal(long, detector.embed_text(["a b c d e f"]))  # and the two marks


@pytest.mark.parametrize(
    ("embeds", "error", "says"),
    [
        (torch.ones(2, 512), HostError, "width 24, got 512"),
        (torch.ones(WIDTH), ShapeError, "(classes, 24)"),
        (torch.ones(0, WIDTH), EmptyInputError, "at least one"),
        (torch.full((1, WIDTH), torch.nan), NonFiniteError, "NaN"),
        ([[1.0]], ShapeError, "list"),
    ],
)
def test_queries_that_do_not_fit_are_refused(detector, embeds, error, says):
    with pytest.raises(error) as caught:
        detector.detect(detector.encode_image(picture()), embeds)
    assert says in str(caught.value)


def test_pictures_and_texts_that_cannot_be_used_are_refused(detector):
    with pytest.raises(EmptyInputError, match="0 x 5"):
        detector.encode_image(Image.new("RGB", (0, 5)))
    with pytest.raises(InputError, match="wanted a picture as a path, bytes"):
        detector.encode_image([1, 2])
    with pytest.raises(InputError, match="list of texts"):
        detector.embed_text("dog")
    for empty in ([], ["dog", " "]):
        with pytest.raises(EmptyInputError):
            detector.embed_text(empty)


def test_folders_that_hold_no_owl_detector_are_refused(tmp_path):
    with pytest.raises(HostError, match="cannot be loaded"):
        OwlDetector.from_pretrained(tmp_path / "missing", local_files_only=True)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(HostError, match="found one of kind 'clip'"):
        OwlDetector.from_pretrained(tmp_path, local_files_only=True)
    with pytest.raises(HostError, match="Linear"):
        OwlDetector(torch.nn.Linear(1, 1), None)


def test_a_truncated_weight_file_is_refused(tmp_path):
    build("owlv2").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="truncated or damaged at 1,000 bytes"):
        OwlDetector.from_pretrained(tmp_path, local_files_only=True)


def test_more_prompts_do_not_run_the_vision_tower_again(detector, monkeypatch):
    encoded, embeds = detector.encode_image(picture()), detector.embed_text(TEXTS)
    monkeypatch.setattr(detector.model, "image_embedder", None)
    assert len(detector.detect(encoded, embeds, threshold=0.2)) > 0


def test_half_precision_gives_about_the_same(tmp_path):
    build("owlv2").save_pretrained(tmp_path)
    full, half = (OwlDetector.from_pretrained(tmp_path, dtype=d) for d in (torch.float32, torch.bfloat16))
    scores = [d.logits(d.encode_image(picture()), d.embed_text(TEXTS)).float().sigmoid() for d in (full, half)]
    assert half.model.dtype == torch.bfloat16 and torch.allclose(*scores, atol=0.05)
    assert half.detect(half.encode_image(picture()), torch.eye(WIDTH), threshold=0.3).scores.dtype == np.float32
    assert len(half.propose(half.encode_image(picture())))


def test_settings_that_the_tokenizer_does_not_know_are_no_words_on_standard_output(tmp_path, capfd):
    build("owlv2").save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["added_tokens_decoder"] = {"54": {"content": "<|endoftext|>", "special": True, "nonsense": 1}}
    file.write_text(json.dumps(settings))
    OwlDetector.from_pretrained(tmp_path)
    assert "nonsense" not in "".join(capfd.readouterr())
