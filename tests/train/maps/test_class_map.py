from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bind2gen.errors import InputError, ShapeError, UnreadableError
from bind2gen.files.embeddings import EmbeddingSet, save_embeddings
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.arithmetic import normalize
from bind2gen.space.class_map import ClassMap
from bind2gen.train.maps.class_map import MAP_RIDGES, fit_class_map, procrustes_map
from bind2gen.train.maps.recipe import groups_of, load_map_recipe, read_means, write_map
from bind2gen.train.recipe_files import bundled_recipes


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def turn(seed: int, size: int) -> torch.Tensor:
    return torch.linalg.qr(draw(seed, size, size))[0]


def cone(x: torch.Tensor, seed: int) -> torch.Tensor:
    """Unit vectors that differ little, as class vectors of CLIP."""
    return normalize(normalize(draw(seed, 1, x.shape[1])) + 0.5 * x / x.shape[1] ** 0.5)


NAMES = [f"thing {i}" for i in range(200)]


# ---- Procrustes ----


def test_a_turn_and_a_scale_are_found_whatever_the_widths():
    source = draw(0, 100, 6)
    for wanted in (2.5 * turn(1, 6), 0.3 * turn(1, 9)[:6]):  # 6 -> 6, 6 -> 9
        assert torch.allclose(procrustes_map(source, source @ wanted), wanted, atol=1e-4)


def test_fewer_dimensions_get_a_scaled_projection():
    source, wanted = draw(0, 5000, 6), 0.7 * turn(1, 6)[:, :4]
    found = procrustes_map(source, source @ wanted)
    scale = found.square().sum().sqrt() / 2  # of 4 orthonormal columns
    assert torch.allclose(found.T @ found, scale**2 * torch.eye(4), atol=1e-5)
    assert torch.allclose(found, wanted, atol=0.03)  # as the source's directions are of about equal strength


def test_no_other_scaled_turn_fits_better():
    source, target = draw(0, 40, 5), draw(1, 40, 5)

    def error(matrix: torch.Tensor) -> float:
        return float((source @ matrix - target).square().sum())

    best = procrustes_map(source, target)
    scale = best.norm() / 5**0.5
    for seed in range(2, 12):
        assert error(best) < error(
            scale * (best / scale) @ torch.matrix_exp(0.1 * (draw(seed, 5, 5) - draw(seed, 5, 5).T))
        )
    assert error(best) < min(error(0.99 * best), error(1.01 * best))


def test_nothing_in_common_and_unpaired_rows_are_refused():
    with pytest.raises(InputError, match="all embeddings are equal"):
        procrustes_map(torch.zeros(5, 3), draw(0, 5, 3))
    with pytest.raises(ShapeError, match=r"procrustes_map.*\(5, 3\).*\(6, 3\)"):
        procrustes_map(draw(0, 5, 3), draw(0, 6, 3))


# ---- the whole fit ----


@pytest.mark.parametrize("method", ["ridge", "procrustes"])
def test_a_space_that_is_a_turned_copy_is_mapped_for_names_that_were_left_out(method):
    source = cone(draw(0, 200, 16), 1)
    target = source @ turn(2, 24)[:16]
    made, report = fit_class_map(source, target, NAMES, method=method)
    assert report.top1 > 0.99 and report.cosine > 0.99 and report.centred_cosine > 0.98
    assert report.cosine_of_mean < report.cosine and report.chance1 == 1 / 200
    assert torch.allclose(made(source), target, atol=0.02)


def test_a_space_without_relation_is_reported_as_one():
    source, target = cone(draw(0, 200, 16), 1), cone(draw(2, 200, 24), 3)
    _, report = fit_class_map(source, target, NAMES)
    assert report.ridge == max(MAP_RIDGES) and report.top5 < 0.1 and abs(report.centred_cosine) < 0.1
    # The cone alone looks like success, which the report gives away.
    assert report.cosine > 0.8 and report.cosine == pytest.approx(report.cosine_of_mean, abs=0.02)
    assert f"{report.cosine_of_mean:.3f}" in report.table()


def test_each_name_is_judged_by_a_map_that_did_not_see_it():
    """A map of as many weights as names knows all of them by heart; the report must not."""
    source, target = cone(draw(0, 60, 80), 1), cone(draw(2, 60, 8), 3)
    made, report = fit_class_map(source, target, NAMES[:60], method="procrustes")
    by_heart = ((made(source) @ target.T).argmax(1) == torch.arange(60)).float().mean().item()
    assert by_heart > 4 * max(report.top1, 1 / 60)


def test_names_of_one_group_are_left_out_together():
    """With every name there twice, a twin on the training side would give the answer away."""
    source, target = cone(draw(0, 40, 80), 1), cone(draw(2, 40, 8), 3)
    twins = [x.repeat_interleave(2, dim=0) for x in (source, target)]
    _, apart = fit_class_map(*twins, [f"n{i}" for i in range(80)], method="ridge")
    _, together = fit_class_map(*twins, [f"n{i // 2}" for i in range(80)], method="ridge")
    assert apart.centred_cosine > 0.5 > 0.3 > together.centred_cosine


def test_the_offset_is_in_the_map_and_so_are_the_gaps():
    source = cone(draw(0, 200, 16), 1)
    gap = draw(5, 16)
    made, _ = fit_class_map(source, source @ turn(2, 16), NAMES, method="procrustes", gaps={"audio": gap})
    assert torch.allclose(made(source + gap, "audio"), made(source), atol=1e-4)


def test_too_few_names_and_unknown_methods_are_refused():
    with pytest.raises(InputError, match="at least 10.*got 4"):
        fit_class_map(draw(0, 4, 3), draw(1, 4, 3), NAMES[:4])
    with pytest.raises(InputError, match="at least 10.*got 1"):
        fit_class_map(draw(0, 40, 3), draw(1, 40, 3), ["a"] * 40)
    with pytest.raises(InputError, match="ridge, procrustes.*'magic'"):
        fit_class_map(draw(0, 40, 3), draw(1, 40, 3), NAMES[:40], method="magic")
    with pytest.raises(InputError, match="groups"):
        fit_class_map(draw(0, 40, 3), draw(1, 40, 3), NAMES)
    with pytest.raises(ShapeError):
        fit_class_map(draw(0, 40, 3), draw(1, 41, 3), NAMES[:40])


# ---- recipes ----

SMALL = 'encoder = "mini"\nnames = "names.txt"\n[target]\nopen_clip = "M"\nweights = "w.pt"\n'


def test_bundled_recipes_are_read_and_are_no_training_runs():
    assert bundled_recipes(maps=True) == ["map_detic", "map_detic_bundled", "map_owlv2"]
    assert not set(bundled_recipes()) & set(bundled_recipes(maps=True))
    kinds = [load_map_recipe(name).target.kind for name in bundled_recipes(maps=True)]
    assert kinds == ["open_clip", "vectors", "owl"]
    assert "NC" in load_map_recipe("map_detic").card.terms  # ImageBind's weights are not for business


def test_changes_take_the_place_of_the_recipes_values(tmp_path):
    (tmp_path / "r.toml").write_text(SMALL)
    changed = load_map_recipe(tmp_path / "r.toml", vectors="v.npy", method="procrustes")
    assert (changed.target.kind, changed.target.open_clip, changed.method) == ("vectors", "", "procrustes")
    other = load_map_recipe(tmp_path / "r.toml", open_clip="N")
    assert (other.target.open_clip, other.target.weights, other.names) == ("N", "w.pt", "names.txt")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("encoder = 3\n[target]\nowl = 'x'\n", "encoder.*text in quotes"),
        ("[target]\nowl = 'x'\n", "missing are encoder"),
        ("encoder = 'a'\ntarget = 'b'\n", "wanted a table"),
        ("encoder = 'a'\nnames = 'n'\n[target]\n", "one of vectors, open_clip and owl, got none"),
        ("encoder = 'a'\nnames = 'n'\n[target]\nowl = 'x'\nvectors = 'y'\n", "got vectors, owl"),
        ("encoder = 'a'\n[target]\nowl = 'x'\n", "names"),
        ("encoder = 'a'\n[target]\nvectors = 'x'\nweights = 'w'\n", "weights"),
        ("encoder = 'a'\nmethod = 'b'\n[target]\nvectors = 'x'\n", "ridge, procrustes"),
        ("encoder = 'a'\ntemplates = ['x']\n[target]\nvectors = 'x'\n", "templates"),
        ("encoder = 'a'\ntemplates = 'x {}'\n[target]\nvectors = 'x'\n", "templates.*a list"),
        ("encoder = 'a'\ncolour = 'b'\n[target]\nvectors = 'x'\n", "unknown keys colour"),
        ("encoder", "TOML"),
    ],
)
def test_wrong_recipes_say_what_is_wrong_and_where(tmp_path, text, says):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(InputError, match=f"r.toml: .*{says}"):
        load_map_recipe(tmp_path / "r.toml")
    with pytest.raises(InputError, match="map_detic"):
        load_map_recipe("imagebind_audio")


def test_names_that_differ_in_brackets_or_case_are_one_group():
    assert groups_of(["bat (animal)", "Bat", "bat (sports)", "(x)"]) == ["bat", "bat", "bat", "(x)"]


def test_means_come_from_adapters_and_from_embeddings(tmp_path):
    means = {"image": draw(0, 4), "text": draw(1, 4)}
    EmbeddingAdapter.from_means(means).save_pretrained(tmp_path / "adapter")
    assert torch.equal(read_means(tmp_path / "adapter")["text"], means["text"])
    rows = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    save_embeddings(tmp_path / "e.npz", EmbeddingSet({"audio": rows}, {"audio": list("abcde")}, {}))
    assert torch.allclose(read_means(tmp_path / "e.npz")["audio"], torch.from_numpy(rows.mean(0)))
    with pytest.raises(UnreadableError, match="adapter or a file"):
        read_means(tmp_path)


def test_a_folder_holds_map_metrics_and_a_card_without_the_folders_of_this_machine(tmp_path):
    (tmp_path / "r.toml").write_text(SMALL + '[card]\nname = "My map"\nterms = "Ask me."\n')
    (tmp_path / "v.npy").write_bytes(b"x")
    recipe = load_map_recipe(tmp_path / "r.toml", vectors=str(tmp_path / "v.npy"))
    source = cone(draw(0, 200, 16), 1)
    made, report = fit_class_map(source, source @ turn(2, 16), NAMES, gaps={"audio": draw(5, 16)})
    files = write_map(tmp_path / "out", made, report, recipe)
    assert {path.name for path in files} >= {"README.md", "metrics.json", "config.json"}
    card, metrics = ((tmp_path / "out" / name).read_text() for name in ("README.md", "metrics.json"))
    assert str(tmp_path) not in card + metrics
    for words in ("My map", "Ask me.", "v.npy", "audio", f"{report.top1:.1%}", f"strength {report.ridge:g}"):
        assert words in card
    assert json.loads(metrics)["left_out"] == report.to_dict()
    assert torch.allclose(ClassMap.from_pretrained(tmp_path / "out")(source), made(source), atol=1e-6)
