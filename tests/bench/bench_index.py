"""What `index` costs beside the encoder: CPU seconds of all threads, of files that the bundled model embeds.

    python tests/bench/bench_index.py FOLDER STORE

The encoder's own part is reading, transforming and the towers, in the batches that `index` makes; the rest is looking
into folders, telling what files are, thumbnails, and the store. CPU seconds, since the machine may be busy with more.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bind2gen.store import EmbeddingStore, reading
from bind2gen.store.contents import recognise
from bind2gen.store.embedding import FileEmbedder
from bind2gen.store.encoder import Encoder
from bind2gen.store.indexing import index_folders, locally

spent: Counter[str] = Counter()


def timed(name: str, call: Callable) -> Callable:
    def timing(*args: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return call(*args, **options)
        finally:
            spent[name] += time.process_time() - started

    return timing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("store", type=Path)
    args = parser.parse_args()
    encoder = Encoder.load(modalities=["image", "audio"])
    first = next(path for path in args.folder.rglob("*") if path.is_file() and recognise(str(path)).kind == "picture")
    encoder.embed("image", [first] * 16)  # warm
    reading.recognise = timed("recognising", reading.recognise)
    reading.thumbnail = timed("thumbnails", reading.thumbnail)
    kind = type(encoder.processor)
    kind.__call__ = timed("encoder: reading and transforming", kind.__call__)
    encoder.model.encode = timed("encoder: towers", encoder.model.encode)
    with EmbeddingStore.create(args.store, width=encoder.model.config.embed_dim) as store:
        store.add = timed("store: commits", store.add)
        store.tidy = timed("store: tidying", store.tidy)
        started, wall = time.process_time(), time.monotonic()
        report = index_folders(store, [str(args.folder)], locally(FileEmbedder(encoder, modalities=["image", "audio"])))
        total = time.process_time() - started
        print(f"{report.embedded} files, {total:.1f} CPU s, {time.monotonic() - wall:.1f} s")
        again = time.process_time()
        report = index_folders(store, [str(args.folder)], locally(FileEmbedder(encoder, modalities=["image", "audio"])))
        print(
            f"again: {report.embedded} embedded, {report.unchanged} unchanged, {time.process_time() - again:.2f} CPU s"
        )
    own = sum(seconds for name, seconds in spent.items() if name.startswith("encoder"))
    for name, seconds in spent.most_common():
        print(f"{name:36} {seconds:7.2f} s")
    print(f"all but the encoder: {total - own:.2f} s, {100 * (total - own) / own:.1f} % of its {own:.1f} s")


if __name__ == "__main__":
    main()
