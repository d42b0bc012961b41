"""Naming by labels: hand-computed shares, what is none of them, wordings, scales, and a fitted classifier as a file."""

from __future__ import annotations

import math

import pytest
import torch

from bind2gen.errors import CheckpointError, HostError, InputError, ShapeError
from bind2gen.space.classifier import EmbeddingClassifier
from bind2gen.space.zero_shot import ZeroShotClassifier, pair_scale, template_set

X, Y, Z = torch.eye(3)


def test_shares_are_the_softmax_of_scaled_cosines():
    named = ZeroShotClassifier(["x", "y"], torch.stack([2 * X, 5 * Y]), 3.0)(torch.stack([7 * X, X + Y]))
    right = math.exp(3) / (math.exp(3) + 1)
    assert torch.allclose(named.probabilities, torch.tensor([[right, 1 - right], [0.5, 0.5]]))
    assert (named.known, named.agreement, named.nearer_to) == (None, None, None)
    assert named.first[0] == "x"


def test_what_is_more_like_other_things_is_none_of_the_labels():
    made = ZeroShotClassifier(["x"], X[None], 4.0, others={"up": Y, "far": Z})
    named = made(torch.stack([X, Y, Z]))
    most = math.exp(4) / (math.exp(4) + 2)  # the label against two others
    least = 1 / (1 + 1 + math.exp(4))
    assert torch.allclose(named.known, torch.tensor([most, least, least]))
    assert named.first == ("x", None, None)
    assert named.nearer_to[1:] == ("up", "far")


def test_labels_that_mix_are_weighed_by_themselves():
    made = ZeroShotClassifier(["x", "y"], torch.stack([X, Y]), 9.0, others={"far": Z})
    both = made((X + Y)[None], independent=True)
    alone = 1 / (1 + math.exp(-9 / math.sqrt(2)))  # each against Z, not against the other label
    assert torch.allclose(both.probabilities, torch.full((1, 2), alone))
    assert torch.allclose(both.known, torch.tensor([alone]))
    with pytest.raises(InputError, match="independent.*there are none"):
        ZeroShotClassifier(["x", "y"], torch.stack([X, Y]), 9.0)(X[None], independent=True)


def test_other_things_that_say_the_same_as_a_label_do_not_count():
    near = X + 0.1 * Y
    made = ZeroShotClassifier(["a dog"], X[None], 4.0, others={"hound": near, "dog": Y, "far": Z, "away": -X})
    assert made.same.tolist() == [[True, True, False, False]]  # by where it lies, by its name
    assert made(near[None]).first == ("a dog",)


def test_agreement_is_the_share_of_wordings_with_the_same_first_label():
    wordings = torch.stack([torch.stack([X, Y]), torch.stack([X, Y]), torch.stack([X, Y]), torch.stack([Y, X])])
    named = ZeroShotClassifier(["x", "y"], wordings, 1.0)(torch.stack([X, Y]))
    assert named.first == ("x", "y")
    assert torch.allclose(named.agreement, torch.tensor([0.75, 0.75]))


@pytest.mark.parametrize(
    ("labels", "vectors", "scale", "error"),
    [
        (["x", "x"], torch.eye(3)[:2], 1.0, (InputError, "x is there twice")),
        (["x", "y"], torch.eye(3), 1.0, (ShapeError, "wanted 2 vectors")),
        (["x", "y"], torch.eye(3)[:2], 0.0, (InputError, "above zero")),
        ([], torch.eye(3)[:0], 1.0, (InputError, "at least one")),
    ],
)
def test_what_does_not_fit_is_refused(labels, vectors, scale, error):
    with pytest.raises(error[0], match=error[1]):
        ZeroShotClassifier(labels, vectors, scale)


def test_another_width_is_refused():
    with pytest.raises(ShapeError, match=r"wanted \(N, 3\), got \(1, 4\)"):
        ZeroShotClassifier(["x"], X[None], 1.0)(torch.ones(1, 4))


def test_the_scale_is_that_of_the_modality_that_was_trained_against_pictures(make_imagebind):
    model = make_imagebind()
    text, audio = (float(model.logit_scale(name).detach()) for name in ("text", "audio"))
    assert text != audio
    assert pair_scale(model, "audio", "text") == pair_scale(model, "audio", "image") == audio
    assert pair_scale(model, "image", "text") == pair_scale(model, "image", "video") == text
    assert pair_scale(model, "image", "audio") == audio


def test_words_go_through_the_text_tower_in_every_template(make_imagebind, tiny_pipeline):
    model, processor = tiny_pipeline.imagebind, tiny_pipeline.processor
    made = ZeroShotClassifier.from_model(
        model, processor, ["a", "b"], modality="audio", templates=["{}", "a {}"], others=("c", "d")
    )
    wanted = tiny_pipeline.embed(text=["a", "b", "a a", "a b"])["text"].view(2, 2, -1)
    assert torch.allclose(made.wordings, wanted, atol=1e-6)
    assert made.scale == pair_scale(model, "audio", "text") and made.other_names == ("c", "d")


def test_template_sets_by_name():
    assert len(template_set("clip80")) == 80 and len(set(template_set("clip80"))) == 80
    assert all("{}" in text for name in ("clip80", "audio", "none") for text in template_set(name))
    assert template_set(["{}!"]) == ("{}!",)
    with pytest.raises(InputError, match="clip80, audio, none.*'clip'"):
        template_set("clip")


@pytest.fixture
def fitted():
    made = EmbeddingClassifier(3, ["x", "y"], "audio", "ridge", scale=2.0, threshold=0.6)
    made.weight.copy_(torch.stack([X, Y]))
    made.bias.copy_(torch.tensor([0.0, 0.5]))
    return made


def test_a_fitted_classifier_is_a_linear_layer_and_a_folder(fitted, tmp_path):
    named = fitted(torch.stack([4 * X, Z]))
    right = 1 / (1 + math.exp(2 * 0.5 - 2))
    other = 1 / (1 + math.exp(2 * 0.5))
    assert torch.allclose(named.probabilities[:, 0], torch.tensor([right, other]))
    assert named.first == ("x", "y") and named.threshold == 0.6
    fitted.save_pretrained(tmp_path)
    again = EmbeddingClassifier.from_pretrained(tmp_path)
    assert torch.equal(again(torch.stack([X, Z])).probabilities, named.probabilities)
    assert again.labels == ("x", "y") and again.config.modality == "audio"
    with pytest.raises(ShapeError, match=r"\(N, 3\)"):
        again(torch.ones(1, 2))


def test_a_folder_whose_config_does_not_fit_its_weights_is_refused(fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"y"', '"y", "z"'))
    with pytest.raises(CheckpointError, match=r"wanted shape \(3"):
        EmbeddingClassifier.from_pretrained(tmp_path)


def test_another_encoder_is_refused(make_imagebind):
    model = make_imagebind()
    made = EmbeddingClassifier(model.config.embed_dim, ["x", "y"], "audio", encoder=model.fingerprint())
    made.check(model)
    model.towers["audio"].head.projection.weight.data += 1.0
    with pytest.raises(HostError, match="another encoder"):
        made.check(model)
    with pytest.raises(HostError, match=f"width 3, these have {model.config.embed_dim}"):
        EmbeddingClassifier(3, ["x", "y"]).check(model)
    with pytest.raises(InputError, match="all different"):
        EmbeddingClassifier(3, ["x", "x"])
