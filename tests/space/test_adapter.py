from __future__ import annotations

import warnings

import pytest
import torch

from bind2gen.errors import Bind2GenWarning, InputError, ModalityError, NonFiniteError, ShapeError
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.arithmetic import blend, gap_shift, normalize


def unit(seed: int, *shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture
def means() -> dict[str, torch.Tensor]:
    return {name: 0.4 * unit(i, 8) for i, name in enumerate(("image", "audio", "text"))}


def test_the_default_adapter_is_a_plain_blend():
    a, b = unit(5, 3, 8), unit(6, 3, 8)
    with pytest.warns(Bind2GenWarning, match="audio: no mean .*bind2gen fit-gap --imagebind"):
        plain = EmbeddingAdapter(8)({"audio": a, "image": b}, {"audio": 0.7})
    assert torch.equal(plain, blend([a, b], [0.7, 1.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pictures, films and what is told not to move do not miss a mean
        EmbeddingAdapter(8)({"image": a, "video": b})
        EmbeddingAdapter(8, gap_strength=0.0)({"audio": a})


def test_each_modality_is_shifted_by_its_own_mean_and_images_stay(means):
    adapter = EmbeddingAdapter.from_means(means)
    x = unit(5, 3, 8)
    assert torch.allclose(adapter({"image": x}), x, atol=1e-6)
    for name in ("audio", "text"):
        assert torch.allclose(adapter({name: x}), gap_shift(x, means[name], means["image"]), atol=1e-6)
    with pytest.warns(Bind2GenWarning, match="imu"):
        assert torch.allclose(adapter({"imu": x}), x, atol=1e-6)  # no mean known


def test_the_means_of_a_shifted_cloud_and_of_images_meet(means):
    """Clouds as tight as real modality cones; renormalisation leaves a small rest."""
    cone = normalize(unit(6, 8) + 0.3 * unit(7, 4000, 8))
    adapter = EmbeddingAdapter.from_means({"image": means["image"] / 0.4 * cone.mean(0).norm(), "audio": cone.mean(0)})
    target = adapter.means[0]
    assert (adapter({"audio": cone}).mean(0) - target).norm() < 0.05 < 0.5 < (cone.mean(0) - target).norm()


def test_saving_and_loading_keeps_the_means(tmp_path, means):
    adapter = EmbeddingAdapter.from_means(means, gap_strength=0.5)
    adapter.save_pretrained(tmp_path)
    again = EmbeddingAdapter.from_pretrained(tmp_path)
    x = unit(5, 3, 8)
    assert again.config.gap_strength == 0.5
    assert torch.allclose(again({"audio": x}), adapter({"audio": x}), atol=1e-6)
    assert not torch.allclose(again({"audio": x}), x)


def test_bad_means_and_weights_are_named(means):
    with pytest.raises(ModalityError, match="image"):
        EmbeddingAdapter.from_means({"audio": means["audio"]})
    with pytest.raises(ModalityError, match="smell"):
        EmbeddingAdapter.from_means(means | {"smell": means["audio"]})
    with pytest.raises(NonFiniteError, match="adapter: wanted finite means and maps"):
        EmbeddingAdapter.from_means(means | {"audio": means["audio"] / 0})
    with pytest.raises(ShapeError, match="one shape"):
        EmbeddingAdapter.from_means(means | {"imu": torch.zeros(9)})
    with pytest.raises(ModalityError, match="'text'"):
        EmbeddingAdapter.from_means(means)({"audio": unit(0, 1, 8)}, {"text": 1.0})
    with pytest.raises(InputError, match="list"):
        EmbeddingAdapter.from_means(means)({"audio": unit(0, 1, 8)}, [1.0])


def test_a_learned_map_replaces_the_plain_shift(tmp_path, means):
    learned = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    adapter = EmbeddingAdapter.from_means(means, maps={"audio": learned})
    x = unit(5, 3, 8)
    wanted = normalize(means["image"] + (x - means["audio"]) @ learned)
    assert torch.allclose(adapter({"audio": x}), wanted, atol=1e-5)
    assert torch.allclose(adapter({"text": x}), gap_shift(x, means["text"], means["image"]), atol=1e-6)
    identity = EmbeddingAdapter.from_means(means, maps={"audio": torch.eye(8)})
    assert torch.allclose(identity({"audio": x}), EmbeddingAdapter.from_means(means)({"audio": x}), atol=1e-5)
    adapter.save_pretrained(tmp_path)
    assert torch.allclose(EmbeddingAdapter.from_pretrained(tmp_path)({"audio": x}), adapter({"audio": x}), atol=1e-6)


def test_bad_maps_are_named(means):
    with pytest.raises(ShapeError, match=r"maps \(8, 8\)"):
        EmbeddingAdapter.from_means(means, maps={"audio": torch.zeros(8, 7)})
    with pytest.raises(ModalityError, match="imu"):
        EmbeddingAdapter.from_means(means, maps={"imu": torch.eye(8)})


def test_mapped_embeddings_are_drawn_to_the_anchors_and_others_are_not(means, tmp_path):
    keys, anchors, maps = torch.eye(8)[:3], torch.eye(8)[5:], {"audio": torch.eye(8)}
    adapter = EmbeddingAdapter.from_means(means, maps=maps, anchors=(2 * keys, 3 * anchors), anchor_temperature=0.02)
    plain = EmbeddingAdapter.from_means(means, maps=maps)
    near_second = normalize(0.3 * unit(5, 4, 8) + torch.eye(8)[1] - means["image"] + means["audio"])
    moved = adapter({"audio": near_second})
    assert (moved[:, 6] > 0.99).all()
    assert torch.allclose(adapter.shift("audio", near_second), plain({"audio": near_second}), atol=1e-6)
    both, weights = {"audio": near_second, "text": unit(6, 4, 8)}, {"text": -0.5}
    assert torch.allclose(adapter(both, weights, anchored=False), plain(both, weights), atol=1e-6)
    softer = EmbeddingAdapter.from_means(means, maps=maps, anchors=(keys, anchors), anchor_temperature=1.0)
    assert (softer({"audio": near_second})[:, 6] < 0.9).all()  # a mean of all three
    assert torch.allclose(adapter({"text": near_second}), plain({"text": near_second}), atol=1e-6)
    words = EmbeddingAdapter.from_means(means, maps=maps, anchors=(keys, anchors), near_anchors=["text"])
    said = near_second - means["audio"] + means["text"]
    assert (words({"text": said})[:, 6] > 0.99).all() and torch.equal(words({"audio": said}), plain({"audio": said}))
    adapter.save_pretrained(tmp_path)
    assert torch.allclose(EmbeddingAdapter.from_pretrained(tmp_path)({"audio": near_second}), moved, atol=1e-6)


def test_what_is_heard_beside_the_kind_is_kept_by_its_share(means, tmp_path):
    """Two sounds of one kind are then conditioned differently, and no kind is mistaken for another."""
    kinds, maps = torch.eye(8)[:3], {"audio": torch.eye(8)}
    barks = normalize(torch.eye(8)[1] + 0.4 * unit(5, 6, 8))
    heard = barks - means["image"] + means["audio"]  # so that it is moved there again
    made = {}
    for share in (0.0, 0.5, 1.0):
        adapter = EmbeddingAdapter.from_means(means, maps=maps, anchors=(kinds, kinds), anchor_residual=share)
        made[share] = adapter({"audio": heard})
        adapter.save_pretrained(tmp_path)
        assert torch.equal(EmbeddingAdapter.from_pretrained(tmp_path)({"audio": heard}), made[share])
    assert torch.allclose(made[0.0], torch.eye(8)[1].expand(6, 8), atol=1e-3)  # all alike
    assert torch.allclose(made[1.0], barks, atol=1e-6)
    assert torch.allclose(made[0.5], normalize(made[0.0] + barks), atol=1e-3)
    assert (made[0.5] @ kinds.T).argmax(1).eq(1).all()
    words = EmbeddingAdapter.from_means(means, anchors=(kinds, kinds), near_anchors=["text"], anchor_residual=1.0)
    said = words({"text": barks - means["image"] + means["text"]})  # without a map, what is left is not what was meant
    assert torch.allclose(said, made[0.0], atol=1e-3)
    far, half = (torch.pdist(made[share]).mean() for share in (1.0, 0.5))
    assert 0.3 * far < half < 0.7 * far
    shown = EmbeddingAdapter.from_means(
        means, anchors=(kinds, kinds), near_anchors=["image", "video"], anchor_residual=0.5
    )
    for pictures in ("image", "video"):
        assert torch.allclose(shown({pictures: barks}), made[0.5], atol=1e-6)
        assert torch.allclose(shown({pictures: barks}, anchored=False), barks, atol=1e-6)
    assert torch.equal(shown.in_slot(barks), barks)  # where a picture lies, not where one is led


def test_what_is_subtracted_is_not_drawn(means):
    """A kind less itself is the next one; of what is led nowhere, the kind's anchor is taken."""
    keys, places = torch.eye(8)[:3], torch.eye(8)[5:]
    adapter = EmbeddingAdapter.from_means(
        means, anchors=(keys, places), near_anchors=["audio", "text"], anchor_temperature=0.02, gap_strength=0.0
    )
    sound = normalize(torch.tensor([[1.0, 0.5, 0.1, 0, 0, 0, 0, 0]]))
    first, second = {"audio": sound, "text": keys[:1]}, {"audio": sound, "text": keys[1:2]}
    for weights in ({"text": -0.7}, {"audio": 2.0, "text": -1.4}):
        assert torch.allclose(adapter(first, weights), places[1:2], atol=1e-3)
        assert torch.allclose(adapter(second, weights), places[:1], atol=1e-3)
    assert torch.allclose(adapter(first, {"text": -1e-3}), places[:1], atol=1e-3)  # next to nothing takes nothing away
    alone = adapter({"audio": keys[:1], "text": keys[:1]}, {"text": -1.0})
    assert alone.isfinite().all() and alone[0, 5] < 0.01
    led = EmbeddingAdapter.from_means(
        means, anchors=(keys, keys), near_anchors=["image", "text"], anchor_residual=0.0, gap_strength=0.0
    )
    photo = {"image": sound, "text": keys[:1]}
    assert torch.allclose(led(photo, {"text": -0.7}), keys[1:2], atol=1e-3)
    assert torch.allclose(adapter(photo, {"text": -0.5}), normalize(sound - 0.5 * places[:1]), atol=1e-3)
    with pytest.raises(InputError, match="at least one weight above zero"):
        adapter(first, {"audio": -1.0, "text": -1.0})
    with pytest.raises(InputError, match="finite numbers"):
        adapter(first, {"text": "much"})


def test_anchors_with_names_say_what_is_drawn(means, tmp_path):
    keys, parts = torch.eye(8)[:3], {"maps": {"audio": torch.eye(8)}}
    adapter = EmbeddingAdapter.from_means(means, **parts, anchors=(keys, keys), anchor_names=["ant", "bee", "cat"])
    adapter.save_pretrained(tmp_path)
    adapter = EmbeddingAdapter.from_pretrained(tmp_path)
    sounds = (
        5 * keys[[2, 0]] + adapter.means[adapter.known.index("audio")] - adapter.means[adapter.known.index("image")]
    )
    assert adapter.drawn_as("audio", sounds) == ["cat", "ant"]
    assert adapter.drawn_as("image", keys) is None  # not led
    assert EmbeddingAdapter.from_means(means, **parts, anchors=(keys, keys)).drawn_as("audio", keys) is None
    with pytest.raises(InputError, match="a name of each of 3 anchors, got 1"):
        EmbeddingAdapter.from_means(means, **parts, anchors=(keys, keys), anchor_names=["ant"])


def test_anchors_of_another_width_are_refused(means):
    with pytest.raises(ShapeError, match="anchors"):
        EmbeddingAdapter.from_means(means, anchors=(torch.eye(4), torch.eye(4)))
    with pytest.raises(ShapeError, match="anchors"):
        EmbeddingAdapter.from_means(means, anchors=(torch.eye(8)[:2], torch.eye(8)))
