"""Searching by sound, and by photo and sound together, through a store, on the bundled model's held-out data.

    python tests/bench/search_held_out.py DATA FOLDER

The photos of DATA (mini.evaluate.held_out) are written to FOLDER as files and indexed as ``bind2gen index`` does;
queries go as ``bind2gen search`` sends them. Beside each figure stands that of mini.evaluate, without a store. A fit of
relevance on one half of the sounds is judged on the other; --save FOLDER keeps it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image

from bind2gen.mini.evaluate.held_out import load_held_out
from bind2gen.mini.evaluate.sums import DIVERSITY, FIRST, draw_pairs, found_both
from bind2gen.space.index import EmbeddingIndex
from bind2gen.store import EmbeddingStore, Part
from bind2gen.store.embedding import FileEmbedder
from bind2gen.store.encoder import Encoder
from bind2gen.store.indexing import index_folders, locally
from bind2gen.store.relevance import LIKELY, Relevance, fit_curve

LISTED = 10  # hits of a query that the fit is made on


def write(data, folder: Path) -> tuple[list[str], list[str]]:
    """Files of photos and of sounds, in order."""
    photos = [str(folder / "photos" / f"{number:05}.png") for number in range(len(data.photos.samples))]
    sounds = [str(folder / "sounds" / f"{number:05}.wav") for number in range(len(data.sounds.samples))]
    for place in ("photos", "sounds"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for path, pixels in zip(photos, data.photos.pixels, strict=True):
        Image.fromarray(pixels).save(path)
    for path, wave in zip(sounds, data.sounds.waveforms, strict=True):
        soundfile.write(path, wave, data.sounds.sample_rate, subtype="FLOAT")
    return photos, sounds


def embedded(encoder: Encoder, modality: str, files: list[str]) -> torch.Tensor:
    return torch.cat([encoder.embed(modality, files[start : start + 16]) for start in range(0, len(files), 16)])


def graded(store, encoder, vectors, heard, concept_of, absent: bool) -> tuple[list[float], list[bool]]:
    """Cosines of the hits of each sound, and whether they are right; ``absent``: with what is right taken away."""
    cosines, right = [], []
    for vector, name in zip(vectors, heard, strict=True):
        without = [path for path, concept in concept_of.items() if absent and concept == name]
        hits = store.search([Part("audio", vector)], LISTED, modality="image", without=without, adapter=encoder.adapter)
        cosines += [hit.score for hit in hits]
        right += [concept_of[hit.item.path] == name for hit in hits]
    return cosines, right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--save", type=Path)
    args = parser.parse_args()
    data = load_held_out(args.data)
    photos, sounds = write(data, args.folder)
    seen, heard = data.photos.concepts(), data.sounds.concepts()
    encoder = Encoder.load(modalities=["image", "audio"])
    place = args.folder / "store"
    made = EmbeddingStore.open if place.exists() else EmbeddingStore.create
    with made(place, **({} if place.exists() else {"width": encoder.model.config.embed_dim})) as store:
        started = time.monotonic()
        embedder = FileEmbedder(encoder, modalities=["image"])
        report = index_folders(store, [str(args.folder / "photos")], locally(embedder))
        print(f"{report.rows} photos in {time.monotonic() - started:.0f} s; {len(sounds)} sounds", flush=True)
        shown, sung = embedded(encoder, "image", photos), embedded(encoder, "audio", sounds)
        moved = encoder.adapter({"audio": sung}, anchored=False)
        concept_of = dict(zip(photos, seen, strict=True))
        options = {"modality": "image", "adapter": encoder.adapter}
        first = [store.search([Part("audio", v)], 1, **options)[0].item.path for v in sung]
        rank_one = np.mean([concept_of[path] == name for path, name in zip(first, heard, strict=True)])
        wanted = np.mean(seen[(moved @ shown.T).argmax(1).numpy()] == heard)
        print(f"photo by sound at rank 1: {rank_one:.4f}; without a store {wanted:.4f}", flush=True)
        pairs, at = draw_pairs(seen, heard), {path: number for number, path in enumerate(photos)}
        found = []
        for photo, sound in zip(pairs.photos, pairs.sounds, strict=True):
            parts = [Part("image", shown[photo]), Part("audio", sung[sound])]
            hits = store.search(parts, FIRST, diversity=DIVERSITY, without=[photos[photo]], **options)
            found.append([at[hit.item.path] for hit in hits])
        both = found_both(np.array(found), seen, pairs, heard).mean()
        index = EmbeddingIndex(shown, whiten=True)
        query = [shown[pairs.photos], moved[pairs.sounds]]
        hits = index.search(query, FIRST, diversity=DIVERSITY, leave_out=torch.from_numpy(pairs.photos))
        alone = found_both(hits.places.numpy(), seen, pairs, heard).mean()
        print(f"both of photo and sound in the first {FIRST}: {both:.4f}; without a store {alone:.4f}", flush=True)
        halves = np.arange(len(sounds)) % 2 == 0
        curves = {}
        for name, half in (("fitted on", halves), ("judged on", ~halves)):
            parts = [graded(store, encoder, sung[half], heard[half], concept_of, absent) for absent in (False, True)]
            cosines, right = (np.array(parts[0][i] + parts[1][i]) for i in (0, 1))
            curves = curves or {"audio->image": fit_curve(cosines, right)}
            chance = np.array([Relevance(curves).probability("audio", "image", c) for c in cosines])
            bins = np.clip((10 * chance).astype(int), 0, 9)
            gaps = [abs(chance[bins == b].mean() - right[bins == b].mean()) * np.mean(bins == b) for b in set(bins)]
            best = chance.reshape(-1, LISTED).max(1) >= LIKELY
            count = len(best) // 2
            print(f"relevance {name} {count} sounds: calibration error {sum(gaps):.3f}; something relevant is said of "
                  f"{best[:count].mean():.3f} where it is there, of {best[count:].mean():.3f} where it is not",
                  flush=True)  # fmt: skip
        print(curves)
        if args.save:
            Relevance(curves).save(args.save)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
