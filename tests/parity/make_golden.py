"""Regenerate the golden values with the reference implementation.

    python tests/parity/make_golden.py REFERENCE                           # golden_tiny.npz, seconds
    python tests/parity/make_golden.py REFERENCE --size huge               # golden_huge.npz, minutes and 7 GB

REFERENCE is a checkout of facebookresearch/ImageBind; the values here were made with commit 53680b0.

``--recorded FILE`` adds embeddings of real files (keys ``text.tokens`` and ``text|vision|audio.embed``) that were
recorded from the reference elsewhere, on the same fill. What only the reference's loaders, file access and one axis
swap need (pytorchvideo, iopath, einops) is stood in for below, so that torch, timm and ftfy suffice.
"""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
import cases  # noqa: E402

TOWER_OF_CASE = {"image": "vision", "video": "vision"}


def _swap_axes(tensor: torch.Tensor, pattern: str) -> torch.Tensor:
    """All that the reference asks of einops: "b l d -> l b d" and back."""
    before, after = (side.split() for side in pattern.split("->"))
    return tensor.permute([before.index(axis) for axis in after])


def stand_in_for_missing_packages(reference: Path) -> None:
    package = types.ModuleType("imagebind")  # without its __init__, which imports the loaders and pytorchvideo
    package.__path__ = [str(reference / "imagebind")]
    sys.modules["imagebind"] = package
    einops = types.ModuleType("einops")
    einops.rearrange = _swap_axes
    file_io = types.ModuleType("iopath.common.file_io")
    file_io.g_pathmgr = None  # opens the vocabulary, which no tower needs
    packages = {name: types.ModuleType(name) for name in ("iopath", "iopath.common")}
    for name, module in (packages | {"einops": einops, "iopath.common.file_io": file_io}).items():
        sys.modules.setdefault(name, module)


def reference_model(size: str) -> torch.nn.Module:
    """The reference's own class at the sizes of :func:`cases.config`, without initialised storage."""
    from imagebind.models.imagebind_model import ImageBindModel

    towers = {name: cases.config(size).tower(name) for name in cases.HUGE_TOWERS}
    sizes = {}
    for name, tower in towers.items():
        sizes |= {f"{name}_embed_dim": tower.width, f"{name}_num_blocks": tower.depth, f"{name}_num_heads": tower.heads}
    audio, depth, thermal = towers["audio"], towers["depth"], towers["thermal"]
    return ImageBindModel(
        out_embed_dim=cases.config(size).embed_dim,
        audio_kernel_size=audio.kernel[0],
        audio_stride=audio.stride[0],
        audio_num_mel_bins=audio.input_shape[1],
        audio_target_len=audio.input_shape[2],
        audio_drop_path=audio.drop_path,
        depth_kernel_size=depth.kernel[0],
        thermal_kernel_size=thermal.kernel[0],
        **sizes,
    ).eval()


def fill(model: torch.nn.Module, salt: str) -> None:
    """Every learned value from its key; buffers (the causal mask, the fixed scales) stay as they are."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            value = cases.fill_value(key, tuple(parameter.shape), salt)
            parameter.copy_(torch.from_numpy(value))


@torch.no_grad()
def reference_outputs(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The reference takes single clips without their axis, except of audio and video."""
    outputs = {}
    for case, x in inputs.items():
        tower = TOWER_OF_CASE.get(case, case)
        x = x if case in ("audio", "video") else x.squeeze(1)
        outputs[case] = model({tower: x})[tower].numpy()
    return outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="a checkout of facebookresearch/ImageBind")
    parser.add_argument("--size", choices=("small", "huge"), default="small")
    parser.add_argument("--recorded", type=Path, help="npz of embeddings of real files to add to golden_huge.npz")
    arguments = parser.parse_args()
    stand_in_for_missing_packages(arguments.reference)

    model = reference_model(arguments.size)
    fill(model, cases.SALTS[arguments.size])
    golden = reference_outputs(model, cases.inputs(arguments.size))
    if arguments.recorded:
        recorded = np.load(arguments.recorded)
        names = ("text.embed", "vision.embed", "audio.embed")
        golden |= {f"recorded.{name}": recorded[name] for name in names}
        golden["recorded.text.tokens"] = recorded["text.tokens"].astype(np.int32)
        for case in ("depth", "thermal", "imu", "video"):  # the same inputs: two runs of the reference must agree
            error = cases.relative_error(torch.from_numpy(golden[case]), recorded[f"{case}.embed"])
            print(f"{case}: {error:.1e} from the recorded run")
    np.savez_compressed(cases.GOLDEN[arguments.size], **golden)
    print({name: value.shape for name, value in golden.items()}, cases.GOLDEN[arguments.size].stat().st_size, "bytes")


if __name__ == "__main__":
    main()
