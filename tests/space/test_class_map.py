from __future__ import annotations

import pytest
import torch

from bind2gen.errors import HostError, ModalityError, NonFiniteError, ShapeError
from bind2gen.space.arithmetic import normalize
from bind2gen.space.class_map import ClassMap, gaps_of


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MATRIX, TEXT_MEAN, TARGET_MEAN = draw(0, 8, 6), 0.8 * normalize(draw(1, 8)), 0.9 * normalize(draw(2, 6))
GAPS = {"audio": 0.5 * draw(3, 8), "image": 0.5 * draw(4, 8)}


@pytest.fixture
def made() -> ClassMap:
    return ClassMap.from_fit(MATRIX, text_mean=TEXT_MEAN, target_mean=TARGET_MEAN, gaps=GAPS)


def test_what_is_at_the_mean_of_its_modality_lands_on_the_targets_mean(made):
    for name, gap in (("text", 0), *GAPS.items()):
        landed = made((TEXT_MEAN + gap)[None], name)
        assert torch.allclose(landed[0], normalize(TARGET_MEAN), atol=1e-6)


def test_texts_are_mapped_by_the_formula(made):
    x = normalize(draw(5, 4, 8))
    assert torch.allclose(made(x), normalize(TARGET_MEAN + (x - TEXT_MEAN) @ MATRIX), atol=1e-6)


def test_a_sound_beside_a_text_by_the_gap_means_the_same(made):
    x = normalize(draw(5, 4, 8))
    assert torch.allclose(made(x + GAPS["audio"], "audio"), made(x, "text"), atol=1e-5)
    assert not torch.allclose(made(x + GAPS["audio"], "text"), made(x, "text"), atol=1e-2)


def test_videos_lie_where_images_do_and_an_unmeasured_modality_is_taken_for_text(made):
    x = normalize(draw(5, 4, 8))
    assert torch.equal(made(x, "video"), made(x, "image"))
    assert torch.equal(made(x, "imu"), made(x, "text"))


def test_saving_and_loading_keeps_all(made, tmp_path):
    made.save_pretrained(tmp_path)
    again = ClassMap.from_pretrained(tmp_path)
    x = normalize(draw(5, 4, 8))
    assert again.known == made.known == ["text", "audio", "image"]
    assert all(torch.allclose(again(x, name), made(x, name), atol=1e-6) for name in made.known)


def test_gaps_are_differences_from_the_text_mean():
    means = {"text": draw(0, 4), "audio": draw(1, 4)}
    assert torch.equal(gaps_of(means)["audio"], means["audio"] - means["text"]) and set(gaps_of(means)) == {"audio"}
    with pytest.raises(ModalityError, match="text"):
        gaps_of({"audio": draw(1, 4)})


def test_what_does_not_fit_is_named(made):
    with pytest.raises(HostError, match=r"\(B, 8\).*\(2, 9\)"):
        made(draw(0, 2, 9))
    with pytest.raises(ModalityError, match="smell"):
        made(draw(0, 2, 8), "smell")
    with pytest.raises(ModalityError, match="smell"):
        ClassMap(8, 6, modalities=["text", "smell"])
    with pytest.raises(ModalityError, match="text"):
        ClassMap(8, 6, modalities=["audio"])
    with pytest.raises(ShapeError, match="text_mean"):
        ClassMap.from_fit(MATRIX, text_mean=draw(0, 7), target_mean=TARGET_MEAN)
    with pytest.raises(ShapeError, match="gap of audio"):
        ClassMap.from_fit(MATRIX, text_mean=TEXT_MEAN, target_mean=TARGET_MEAN, gaps={"audio": draw(0, 7)})
    with pytest.raises(ShapeError, match="target_mean"):
        ClassMap.from_fit(MATRIX, text_mean=TEXT_MEAN, target_mean=draw(0, 8))
    with pytest.raises(NonFiniteError, match="class map: wanted a finite matrix and finite means"):
        ClassMap.from_fit(MATRIX, text_mean=TEXT_MEAN, target_mean=TARGET_MEAN / 0)
