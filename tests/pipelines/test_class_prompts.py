from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen.errors import Bind2GenWarning, EmptyInputError, HostError, InputError, ModalityError, ShapeError
from bind2gen.imagebind.embedding import embed_inputs
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.pipelines.class_prompts import ROUTES, ClassPrompter
from bind2gen.pipelines.prompt_inputs import MixedPrompt, embed_nothing
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.arithmetic import blend, normalize
from bind2gen.space.class_map import ClassMap
from bind2gen.space.text_towers import EncoderText
from bind2gen.space.vocabulary import Vocabulary
from bind2gen.space.zero_shot import ZeroShotClassifier

WIDTH, WORDS = 32, ("dog", "car", "sea", "an old clock")
RATE = 16_000  # Hz
SOUND = (np.sin(np.arange(RATE) / 7).astype(np.float32), RATE)
PICTURE = Image.fromarray(np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3))


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def parts(make_imagebind) -> dict:
    encoder = make_imagebind()
    means = dict(zip(("image", "audio", "text"), 0.05 * draw(2, 3, WIDTH), strict=True))
    return {
        "encoder": encoder,
        "processor": ImageBindProcessor.for_config(encoder.config),
        "adapter": EmbeddingAdapter.from_means(means),
        "vocabulary": Vocabulary(WORDS, draw(3, len(WORDS), 12)),
        "class_map": ClassMap.from_fit(
            draw(4, WIDTH, 12), text_mean=means["text"], target_mean=draw(5, 12),
            gaps={"audio": means["audio"] - means["text"]},
        ),
    }  # fmt: skip


@pytest.fixture
def make(parts):
    def made(**changes) -> ClassPrompter:
        # A detector with class vectors of its own is in a space of its own.
        given = parts | ({"vocabulary": None} if changes.get("route") == "joint" else {}) | changes
        return ClassPrompter(given.pop("encoder"), given.pop("processor"), **given)

    return made


def embedded(parts, **inputs) -> torch.Tensor:
    return next(iter(embed_inputs(parts["encoder"], parts["processor"], inputs).values()))


def moved(parts, modality: str, embeds: torch.Tensor) -> torch.Tensor:
    """Less the mean image, in the place of images."""
    return parts["adapter"].shift(modality, embeds) - parts["adapter"].means[0]


# ---- sounds that no thing makes ----


def test_silence_and_noise_are_known_in_every_route_and_things_are_not(make, parts):
    nothing = embed_nothing(parts["encoder"], parts["processor"])
    assert set(nothing.names) == {"silence", "hum", "white noise", "pink noise", "brown noise"}
    silence = (np.zeros(RATE, np.float32), RATE)
    for route in ROUTES:
        with pytest.warns(Bind2GenWarning, match="silent"):
            prompts = make(route=route, nothing=nothing).class_embeddings(audio=[silence, SOUND], text="dog")
        assert prompts.nothing == (True, False, False), route
        if route == "words":
            assert prompts.words[0] == (("silence", 1.0),) and len(prompts.words[1]) > 1
    with pytest.warns(Bind2GenWarning, match="silent"):
        assert make().class_embeddings(audio=[silence, SOUND]).nothing == (False, False)  # where none are known


# ---- routes ----


def test_rescoring_gives_the_encoders_own_embeddings(make, parts):
    plain = make(adapter=None, route="rescoring").class_embeddings(audio=SOUND, text=["dog", "sea"])
    assert torch.allclose(plain.embeds[:1], embedded(parts, audio=SOUND), atol=1e-6)
    assert torch.allclose(plain.embeds[1:], embedded(parts, text=["dog", "sea"]), atol=1e-6)
    near_images = make(route="rescoring").class_embeddings(audio=SOUND)
    assert torch.allclose(near_images.embeds, parts["adapter"]({"audio": embedded(parts, audio=SOUND)}), atol=1e-5)


def test_joint_is_less_the_mean_image(make, parts):
    found = make(route="joint").class_embeddings(audio=SOUND, image=PICTURE)
    wanted = [
        moved(parts, "audio", embedded(parts, audio=SOUND)),
        moved(parts, "image", embedded(parts, image=PICTURE)),
    ]
    assert torch.allclose(found.embeds, normalize(torch.cat(wanted)), atol=1e-5)


def test_map_is_the_class_map_with_each_modalitys_mean(make, parts):
    found = make(route="map").class_embeddings(audio=SOUND, text="dog")
    wanted = [parts["class_map"](embedded(parts, **{m: v}), m) for m, v in (("audio", SOUND), ("text", "dog"))]
    assert torch.allclose(found.embeds, torch.cat(wanted), atol=1e-5) and found.words is None


def test_a_word_of_the_vocabulary_is_understood_as_itself(make, parts):
    found = make(templates=("{}",), temperature=1e-3).class_embeddings(text=list(WORDS))
    assert [words[0][0] for words in found.words] == list(WORDS)
    assert torch.allclose(found.embeds, parts["vocabulary"].vectors, atol=1e-3)


def test_texts_far_from_every_word_are_warned_of(make):
    """Those alone, by name, with what they are taken for; of other inputs the threshold says nothing."""
    prompter = make(templates=("{}",), known_text=0.99)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Bind2GenWarning)
        known = prompter.class_embeddings(text=list(WORDS), audio=SOUND)
        make(templates=("{}",)).class_embeddings(text="unheard of")
        make(templates=("{}",), known_text=0.99, route="joint").class_embeddings(text="unheard of")
    assert known.words[1][0][0] == WORDS[0]  # behind the sound
    with pytest.warns(Bind2GenWarning, match=r"the 4 words that the detector knows: 'unheard of' \(nearest: ") as told:
        (words,) = prompter.class_embeddings(text=["unheard of", WORDS[0]]).words[:1]
    (said,) = (str(warning.message) for warning in told)
    assert f"'unheard of' (nearest: {words[0][0]})" in said and repr(WORDS[0]) not in said


def test_sounds_of_other_things_are_warned_of_and_told_by_how_probably_they_are_known(make, parts):
    sound, turned = embedded(parts, audio=SOUND)[0], draw(8, WIDTH)
    naming = {True: ZeroShotClassifier(("dog",), sound[None], 20.0, others={"rain": -sound}),
              False: ZeroShotClassifier(("dog",), -sound[None], 20.0, others={"rain": sound})}  # fmt: skip
    asked = {"audio": SOUND, "text": "dog", "mixed": MixedPrompt(wanted={"audio": SOUND})}
    with warnings.catch_warnings():
        warnings.simplefilter("error", Bind2GenWarning)
        known = make(sounds=naming[True], known_sound=0.5).class_embeddings(**asked)
        far = make(sounds=naming[False]).class_embeddings(**asked)  # which is said, where no threshold is
    assert known.familiar == (pytest.approx(1), None, None) and far.familiar == (pytest.approx(0, abs=1e-6), None, None)
    with pytest.warns(Bind2GenWarning, match=r"^audio: not among the 4 words .*: 'bark' \(nearest: .*words$"):
        make(sounds=naming[False], known_sound=0.5).class_embeddings(audio=SOUND, labels=["bark"])
    given = {"audio": torch.stack([sound, turned]), "text": turned[None]}
    found = make(sounds=naming[True]).from_embeds(given).familiar
    assert found[0] == pytest.approx(1) and 0 < found[1] < 1 and found[2] is None
    assert make().from_embeds(given).familiar == (None, None, None)


def test_words_are_a_convex_blend_of_the_detectors_own_vectors(make, parts):
    found = make(top_words=3).class_embeddings(audio=SOUND, route="words")
    (words,) = found.words
    shares = [share for _, share in words]
    assert len(words) == 3 and sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
    vectors = torch.stack([parts["vocabulary"].vectors[WORDS.index(name)] for name, _ in words])
    assert torch.allclose(found.embeds[0], normalize(torch.tensor(shares) @ vectors), atol=1e-6)
    # Shares follow the cosines of directions, the text's less the mean text, the sound's less the mean sound.
    texts = moved(parts, "text", EncoderText(parts["encoder"], parts["processor"])([f"a {w}" for w in WORDS]))
    cosines = normalize(moved(parts, "audio", embedded(parts, audio=SOUND))) @ normalize(texts).T
    best = cosines[0].topk(3)
    assert [name for name, _ in words] == [WORDS[i] for i in best.indices]
    assert shares == pytest.approx((best.values / 0.05).softmax(0).tolist(), rel=1e-3)


def test_shifting_all_sounds_by_a_gap_that_the_adapter_knows_changes_no_words(make, parts):
    """The gap between modalities must not decide what is understood."""
    sound = embedded(parts, audio=SOUND)
    plain = make(adapter=None)
    bent = normalize(sound + 3 * normalize(embedded(parts, text="sea")))  # every sound lies towards "sea"
    means = {"image": torch.zeros(WIDTH), "text": torch.zeros(WIDTH), "audio": bent[0] - sound[0]}
    known = make(adapter=EmbeddingAdapter.from_means(means))
    understood = known.from_embeds({"audio": bent}).words[0][0][0]
    assert understood == plain.from_embeds({"audio": sound}).words[0][0][0]


def test_word_embeddings_can_be_kept(make, parts):
    first = make()
    again = make(word_embeds=first.word_embeds)
    assert torch.allclose(
        again.class_embeddings(text="dog").embeds, first.class_embeddings(text="dog").embeds, atol=1e-6
    )
    with pytest.raises(ShapeError, match=r"\(4, 32\)"):
        make(word_embeds=torch.ones(3, WIDTH))


@pytest.mark.parametrize("route", ROUTES)
def test_prompts_do_not_depend_on_each_other(make, route):
    prompter = make(route=route)
    together = prompter.class_embeddings(text=["dog", "sea"], audio=SOUND)
    assert torch.allclose(together.embeds[2:], prompter.class_embeddings(text="sea").embeds, atol=1e-5)
    assert torch.allclose(together.embeds[:1], prompter.class_embeddings(audio=SOUND).embeds, atol=1e-5)
    assert torch.allclose(together.embeds.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("route", ROUTES)
def test_embeddings_at_hand_do_as_well(make, parts, route):
    found = make(route=route).from_embeds({"audio": 7 * embedded(parts, audio=SOUND)})  # of any length
    assert torch.allclose(found.embeds, make(route=route).class_embeddings(audio=SOUND).embeds, atol=1e-5)
    assert found.labels == ("audio 1",)


# ---- mixed prompts ----


@pytest.mark.parametrize("route", ROUTES)
def test_a_mixture_of_one_is_that_one(make, route):
    prompter = make(route=route)
    mixed = prompter.class_embeddings(mixed=MixedPrompt({"audio": SOUND}, label="tone"))
    assert torch.allclose(mixed.embeds, prompter.class_embeddings(audio=SOUND).embeds, atol=1e-5)
    assert mixed.labels == ("tone",)


def test_without_means_mixtures_are_the_papers_arithmetic(make, parts):
    prompter = make(adapter=None, route="rescoring")
    mixed = prompter.class_embeddings(
        mixed=[
            MixedPrompt({"audio": SOUND, "image": PICTURE}, weights={"audio": 3.0}),
            MixedPrompt({"audio": SOUND}, unwanted={"text": "a car"}, amount=0.4),
        ]
    )
    sound, picture, car = (
        embedded(parts, **{m: v}) for m, v in (("audio", SOUND), ("image", PICTURE), ("text", "a car"))
    )
    assert torch.allclose(mixed.embeds[:1], blend([sound, picture], [3, 1]), atol=1e-5)
    assert torch.allclose(mixed.embeds[1:], blend([sound, car], [1, -0.4]), atol=1e-5)
    assert mixed.labels == ("audio 1 + image 1", "audio 1 - a car")


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_not_wanted_is_further_away(make, route):
    prompter = make(route=route)
    sound, dog, less = prompter.class_embeddings(
        audio=SOUND, text="dog", mixed=MixedPrompt({"audio": SOUND}, {"text": "dog"})
    ).embeds
    assert less @ dog < sound @ dog - 0.01


def test_mixtures_that_mean_nothing_are_refused():
    for given, kind, says in (
        ({"wanted": {}}, InputError, "at least one"),
        ({"wanted": {"smell": 1}}, ModalityError, "smell"),
        ({"wanted": {"text": "a"}, "weights": {"audio": 1}}, ModalityError, "audio"),
        ({"wanted": {"text": "a"}, "weights": {"text": 0}}, InputError, "weight of text"),
        ({"wanted": {"text": "a"}, "amount": float("nan")}, InputError, "amount"),
    ):
        with pytest.raises(kind, match=says):
            MixedPrompt(**given)


# ---- inputs and labels ----


def test_labels_are_texts_file_names_or_numbers_and_can_be_given(make, tmp_path):
    PICTURE.save(tmp_path / "old clock.png")
    prompter = make()
    found = prompter.class_embeddings(audio=[SOUND, SOUND], text="dog", image=str(tmp_path / "old clock.png"))
    assert found.labels == ("audio 1", "audio 2", "dog", "old clock") and len(found) == 4
    assert prompter.class_embeddings(text=["dog"], labels=["hound"]).labels == ("hound",)
    for labels in (["a", "b"], "a", [1]):
        with pytest.raises(InputError, match="labels"):
            prompter.class_embeddings(text="dog", labels=labels)


def test_no_prompt_and_empty_prompts_are_refused(make):
    prompter = make()
    with pytest.raises(InputError, match="no prompt"):
        prompter.class_embeddings()
    with pytest.raises(InputError, match="no prompt"):
        prompter.from_embeds({})
    with pytest.raises(EmptyInputError, match="empty list"):
        prompter.class_embeddings(audio=[])
    with pytest.raises(EmptyInputError, match="text"):
        prompter.class_embeddings(text=" ")
    with pytest.raises(ShapeError, match=r"\(N, 32\).*\(1, 31\)"):
        prompter.from_embeds({"audio": torch.ones(1, 31)})


def test_a_route_needs_its_parts(make):
    for route, part in (("map", "class_map"), ("words", "vocabulary"), ("joint", "adapter")):
        with pytest.raises(InputError, match=part):
            make(route=route, **{part: None})
    with pytest.raises(InputError, match="class_map"):
        make(class_map=None).class_embeddings(text="dog", route="map")
    with pytest.raises(InputError, match="'joint'.*class vectors of its own: use 'words'"):
        make().class_embeddings(text="dog", route="joint")
    with pytest.raises(InputError, match="map, words"):
        make(route="telepathy")


def test_parts_of_another_encoder_and_numbers_out_of_range_are_refused(make):
    with pytest.raises(HostError, match="class_map.*16.*32"):
        make(class_map=ClassMap(16, 12))
    with pytest.raises(HostError, match="adapter.*16.*32"):
        make(adapter=EmbeddingAdapter(16))
    for changes in ({"top_words": 0}, {"top_words": 1.5}, {"temperature": 0}, {"temperature": float("nan")}):
        with pytest.raises(InputError, match=next(iter(changes))):
            make(**changes)


def test_a_misspelt_word_is_asked_about(make):
    with pytest.warns(Bind2GenWarning, match=r"'an old clokc' \(nearest: .*; did you mean 'an old clock'\?$"):
        make(known_text=1.1).class_embeddings(text="an old clokc")
    with pytest.warns(Bind2GenWarning, match="boxes are of the nearest words$"):
        make(known_text=1.1).class_embeddings(text="the dog")
