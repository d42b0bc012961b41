"""sentence-transformers loads our folders; its embeddings are the encoder's own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from PIL import Image

from bind2gen.errors import CheckpointError, InputError, ShapeError
from bind2gen.files.bundled import bundled_path, example_sounds
from bind2gen.imagebind.checkpoint import convert_checkpoint
from bind2gen.imagebind.embedding import embed_inputs
from bind2gen.imagebind.loading import load_imagebind, load_processor
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.released_names import reference_key
from bind2gen.train.contrastive import info_nce

sentence_transformers = pytest.importorskip("sentence_transformers", reason="pip install 'bind2gen[sentences]'")
import datasets  # noqa: E402
from sentence_transformers import (  # noqa: E402
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import (  # noqa: E402
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)

from bind2gen.imagebind.sentence_module import ImageBindSentenceModule  # noqa: E402

KINDS = ("text", "image", "audio", "video")
OWN = {"text": ["a dog", "a lion in the grass"], "audio": ["bark.wav", "rain.flac"], "image": ["dog.jpg"]}
NEAR = {"atol": 2e-6, "rtol": 0}  # batches of other sizes


def encoder_of(folder: Path, **options) -> SentenceTransformer:
    return SentenceTransformer(str(folder), trust_remote_code=True, device="cpu", **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Sounds, pictures and a film, under the names that the tests speak of."""
    folder = tmp_path_factory.mktemp("files")
    for name, like in {"bark.wav": "dog", "rain.flac": "drone"}.items():
        soundfile.write(folder / name, *soundfile.read(example_sounds()[like]))
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    for number, name in enumerate(("dog.jpg", "sea.png")):
        Image.fromarray(noise[number]).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def here(files, monkeypatch) -> None:
    monkeypatch.chdir(files)


@pytest.fixture(scope="module")
def toy(tiny_folder) -> SentenceTransformer:
    return encoder_of(tiny_folder / "imagebind")


def own(folder: Path, **inputs) -> dict[str, np.ndarray]:
    found = embed_inputs(load_imagebind(folder), load_processor(folder), inputs)
    return {kind: vectors.numpy() for kind, vectors in found.items()}


def converted(model: ImageBindModel, folder: Path) -> Path:
    """Made-up weights of the toy encoder as the released file names them, converted."""
    state = {"modality_preprocessors.text.mask": torch.full((77, 77), -math.inf).triu(1)}
    for key, value in model.state_dict().items():
        _, tower, rest = key.split(".", 2)
        state[reference_key(tower, rest)] = value
    for tower, scale in {"audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}.items():
        state[f"modality_postprocessors.{tower}.1.log_logit_scale"] = torch.tensor(math.log(scale))
    torch.save(state, folder / "imagebind_toy.pth")
    return convert_checkpoint(folder / "imagebind_toy.pth", folder / "out", config=model.config)


def saved_by_itself(folder: Path, out: Path) -> Path:
    encoder_of(folder).save_pretrained(str(out), create_model_card=False)
    return out


# ---- folders ----


@pytest.mark.parametrize(
    "kind", ["bundled", "a part of a saved pipeline", "converted", "saved by sentence-transformers"]
)
def test_one_list_of_words_sounds_and_pictures_from_every_kind_of_folder(kind, tiny_folder, make_imagebind, tmp_path):
    folder = {
        "bundled": lambda: bundled_path("mini") / "imagebind",
        "a part of a saved pipeline": lambda: tiny_folder / "imagebind",
        "converted": lambda: converted(make_imagebind(), tmp_path),
        "saved by sentence-transformers": lambda: saved_by_itself(tiny_folder / "imagebind", tmp_path / "st"),
    }[kind]()
    model = encoder_of(folder)
    mixed = ["a dog", "bark.wav", "a lion in the grass", "dog.jpg", "rain.flac"]
    got, wanted = model.encode(mixed), own(folder, **OWN)
    assert got.dtype == np.float32 and model.get_embedding_dimension() == got.shape[1]
    places = {"text": [0, 2], "audio": [1, 4], "image": [3]}
    for modality, rows in places.items():
        np.testing.assert_allclose(got[rows], wanted[modality], **NEAR)
    assert model.modalities == [*KINDS, "message"] and model.supports(("audio", "text"))
    np.testing.assert_array_equal(model.encode(mixed[::-1])[::-1], got)


def test_the_bundled_file_is_what_saving_writes(make_imagebind, tmp_path):
    make_imagebind().save_pretrained(tmp_path)
    bundled = bundled_path("mini") / "imagebind" / "modules.json"
    assert (tmp_path / "modules.json").read_text() == bundled.read_text()
    (module,) = json.loads(bundled.read_text())
    assert module["type"] == f"{ImageBindSentenceModule.__module__}.{ImageBindSentenceModule.__name__}"


def test_some_towers_in_half_precision(tiny_folder):
    options = {"modalities": ["text", "audio"], "dtype": torch.bfloat16}
    model = encoder_of(tiny_folder / "imagebind", model_kwargs=options)
    assert model.modalities == ["text", "audio", "message"] and model.dtype == torch.bfloat16
    wanted = own(tiny_folder / "imagebind", audio=["bark.wav"])["audio"]
    got = model.encode(["bark.wav"])
    assert got.dtype == np.float32 and got @ wanted.T > 0.999
    with pytest.raises(ValueError, match="image"):
        model.encode([Image.open("dog.jpg")])


def test_what_cannot_be_loaded_is_said(tiny_folder, make_imagebind, tmp_path):
    folder = tiny_folder / "imagebind"
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(folder), device="cpu")
    with pytest.raises(InputError, match="wanted dtype or modalities, got attn"):
        encoder_of(folder, model_kwargs={"attn": "sdpa"})
    make_imagebind().save_pretrained(tmp_path)  # the toy's text tower is not the released one: no processor is implied
    with pytest.raises(CheckpointError, match="processor"):
        encoder_of(tmp_path)


# ---- inputs ----


def test_inputs_of_every_form_give_the_same_embedding(toy):
    samples, rate = soundfile.read("bark.wav", dtype="float32")
    picture = Image.open("dog.jpg")
    forms = {
        "audio": ["bark.wav", Path("bark.wav"), {"audio": "bark.wav"}, {"array": samples, "sampling_rate": rate}],
        "image": ["dog.jpg", picture, np.asarray(picture), {"image": picture}],
        "text": ["a dog", {"text": "a dog"}, {"role": "user", "content": "a dog"}],
    }
    for inputs in forms.values():
        vectors = toy.encode(inputs)
        np.testing.assert_allclose(vectors, np.broadcast_to(vectors[:1], vectors.shape), **NEAR)
    bare = toy.encode([samples], processing_kwargs={"audio": {"sampling_rate": rate}})
    np.testing.assert_allclose(bare, toy.encode(["bark.wav"]), **NEAR)
    assert toy.encode("a dog").shape == (toy.get_embedding_dimension(),)


def test_a_film_comes_with_its_rate(toy, tiny_folder):
    frames = np.random.default_rng(1).integers(0, 256, (30, 32, 48, 3), dtype=np.uint8)
    wanted = own(tiny_folder / "imagebind", video=[(frames, 10.0)])["video"]
    got = toy.encode([{"array": frames, "video_metadata": {"fps": 10.0}}])
    np.testing.assert_allclose(got, wanted, **NEAR)


def test_things_in_one_input_are_added_as_unit_vectors(toy):
    words, sound, picture = toy.encode(["a dog", "bark.wav", "dog.jpg"])
    both = F.normalize(torch.tensor(np.stack([words + sound, words + sound, sound + picture])), dim=-1).numpy()
    image = Image.open("dog.jpg")
    mixed = [{"text": "a dog", "audio": "bark.wav"}, ("a dog", "bark.wav"), {"audio": "bark.wav", "image": image}]
    np.testing.assert_allclose(toy.encode(mixed), both, **NEAR)
    message = {"role": "user", "content": [{"type": "audio", "audio": "bark.wav"}, {"type": "text", "text": "a dog"}]}
    np.testing.assert_allclose(toy.encode([[message]]), both[:1], **NEAR)
    # Two inputs of one thing each, or one of two: sentence-transformers' pull request 3554.
    assert toy.encode(["a dog", "bark.wav"]).shape[0] == 2 and toy.encode([("a dog", "bark.wav")]).shape[0] == 1
    several = toy.encode([{"image": ["dog.jpg", "sea.png"]}])
    one, other = toy.encode(["dog.jpg", "sea.png"])
    np.testing.assert_allclose(several[0], (one + other) / np.linalg.norm(one + other), **NEAR)


def test_bad_inputs_name_themselves(toy):
    bad = {
        "sampling": [np.zeros(1000, np.float32)],
        "depth": [{"depth": "room.png"}],
        "message": [[{"role": "user", "content": [{"type": "image", "url": "x"}]}]],
        "missing.wav": [{"audio": "missing.wav"}],
    }
    for says, inputs in bad.items():
        with pytest.raises(ValueError, match=says):
            toy.encode(inputs)


# ---- what its documentation promises ----


def test_queries_documents_prompts_similarity_and_truncation(toy, tiny_folder):
    items = ["a dog", "bark.wav", "dog.jpg"]
    vectors = toy.encode(items)
    np.testing.assert_array_equal(toy.encode_query(items), vectors)
    np.testing.assert_array_equal(toy.encode_document(items), vectors)
    prompted = toy.encode(items, prompt="the sound of ")
    np.testing.assert_allclose(prompted[0], toy.encode("the sound of a dog"), **NEAR)
    np.testing.assert_allclose(prompted[1:], vectors[1:], **NEAR)
    np.testing.assert_allclose(toy.similarity(vectors, vectors).numpy(), vectors @ vectors.T, atol=1e-6)
    short = encoder_of(tiny_folder / "imagebind", truncate_dim=8)
    np.testing.assert_array_equal(short.encode(items), vectors[:, :8])
    assert short.get_embedding_dimension() == 8
    np.testing.assert_allclose(np.linalg.norm(short.encode(items, normalize_embeddings=True), axis=1), 1, atol=1e-6)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(toy):
    items = ["a dog", "bark.wav", "dog.jpg", ("a dog", "bark.wav")]
    pool = toy.start_multi_process_pool(["cpu", "cpu"])
    try:
        got = toy.encode(items, pool=pool, chunk_size=1)
    finally:
        toy.stop_multi_process_pool(pool)
    np.testing.assert_allclose(got, toy.encode(items), **NEAR)


def test_its_contrastive_loss_is_ours(toy):
    """Symmetric, with a temperature, in small batches; of columns of sounds and of pictures with words."""
    with pytest.raises(ShapeError, match="one modality a column"):
        toy.train()(toy.preprocess(["a dog", "bark.wav"]))
    toy.eval()
    columns = [["bark.wav", "rain.flac"] * 2, [{"image": "dog.jpg", "text": word} for word in ("a", "b", "c", "d")]]
    loss = CachedMultipleNegativesRankingLoss(
        toy, scale=1 / 0.05, mini_batch_size=3, directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )  # fmt: skip
    got = loss([toy.preprocess(column) for column in columns], None)
    first, second = (toy.encode(column, convert_to_tensor=True) for column in columns)
    assert got.item() == pytest.approx(info_nce(first, second, 1 / 0.05).item(), abs=1e-5)


def test_its_trainer_trains_one_tower_on_pairs_of_sounds_and_pictures(tiny_folder, tmp_path):
    model = encoder_of(tiny_folder / "imagebind", local_files_only=True)  # else its model card asks the hub
    towers = model[0].model.requires_grad_(False).towers
    towers["audio"].requires_grad_(True)
    before = {name: tower.head.projection.weight.clone() for name, tower in towers.items()}
    pairs = datasets.Dataset.from_dict({"sound": ["bark.wav", "rain.flac"], "photo": ["dog.jpg", "sea.png"]})
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True
    )
    loss = MultipleNegativesRankingLoss(model, scale=20)
    SentenceTransformerTrainer(model=model, args=arguments, train_dataset=pairs, loss=loss).train()
    moved = {name for name, tower in towers.items() if not torch.equal(tower.head.projection.weight, before[name])}
    assert moved == {"audio"}
