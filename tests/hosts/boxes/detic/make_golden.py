"""Regenerate ``golden_toy.npz`` with this implementation.

    python tests/hosts/boxes/detic/make_golden.py

The reference needs detectron2, which does not install beside a current torch. These numbers were recorded when the
implementation gave the same values as the reference on its full-size and narrow networks (``test_parity.py`` with
BIND2GEN_SHARED set, which checks that again). Run it only after that test has passed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[4])]
import detic_cases as cases  # noqa: E402


def main() -> None:
    golden: dict[str, np.ndarray] = {}
    for name in cases.TOYS:
        detector = cases.toy_detector(name).to(torch.float64)  # the same on every processor, but for the heads' ends
        encoded = detector.encode_image(cases.picture())
        found = detector.detect(encoded, cases.class_embeds(), threshold=0.2, one_class_per_proposal=False)
        golden |= {f"{name}.p{i + 3}": p[0, ::8, ::2, ::2].numpy() for i, p in enumerate(encoded.pyramid)}
        golden |= {
            f"{name}.proposals": encoded.proposals.boxes.numpy(),
            f"{name}.objectness": encoded.proposals.scores.numpy(),
            f"{name}.boxes": found.xyxy,
            f"{name}.scores": found.scores,
            f"{name}.prompts": found.prompts.astype(np.int16),
            f"{name}.mask_area": found.masks.sum((1, 2)).astype(np.int32),
            f"{name}.masks": np.packbits(found.masks[:: cases.MASKS_APART], axis=-1),
        }
        sys.stdout.write(f"{name}: {len(encoded.boxes)} proposals, {len(found)} boxes\n")
    np.savez_compressed(cases.GOLDEN, **golden)
    sys.stdout.write(f"{cases.GOLDEN.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
