"""Time and memory of Detic at its published sizes, on made-up weights.

    python tests/bench/bench_detic.py [--variants resnet-50 swin-b] [--side 800] [--threads 2] [--runs 3]
                                      [--dtype bfloat16] [--reference DETIC --classes LVIS.npy]

For each variant in a fresh process: encoding a 4:3 picture (once per picture), then detecting with one prompt, with 20
and with 1,203 (as often as prompts change), without and with masks. Each figure is a pair: seconds by the clock, and of
all cores together. ``--reference`` is a checkout of facebookresearch/Detic with third_party/CenterNet2; where
detectron2 can be imported, its network runs on the same weights, with the class vectors of ``--classes`` (one of its
metadata files, C x 512).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

GIBIBYTE = 2**30
CONFIGS = {
    "resnet-50": "Detic_LCOCOI21k_CLIP_R5021k_640b32_4x_ft4x_max-size.yaml",
    "swin-b": "Detic_LCOCOI21k_CLIP_SwinB_896b32_4x_ft4x_max-size.yaml",
    "resnet-18": "Detic_LCOCOI21k_CLIP_R18_640b32_4x_ft4x_max-size.yaml",
    "convnext-t": "Detic_LCOCOI21k_CLIP_CXT21k_640b32_4x_ft4x_max-size.yaml",
}
CLASSES = 1203  # of LVIS


def best_of(runs: int, work: Callable[[], object]) -> list[float]:
    """Seconds by the clock and of all cores together, each of its best run; one more goes before.

    The second number is what to compare where the machine has other work to do.
    """
    clock, cores = [], []
    for _ in range(runs + 1):
        started, used = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - started)
        cores.append(time.process_time() - used)
    return [round(min(times[1:]), 3) for times in (clock, cores)]


def picture(side: int):
    """A 4:3 picture of even noise whose short side is ``side`` pixels."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (side // 8, side // 6, 3), np.uint8)
    return Image.fromarray(noise).resize((side * 4 // 3, side))


def network(variant: str):
    """Our network with variance-keeping random weights that find proposals."""
    import torch

    from bind2gen.hosts.boxes.detic import VARIANTS, DeticDetector, DeticModel

    torch.manual_seed(0)
    model = DeticModel(VARIANTS[variant])
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "centernet_head" not in name:
            torch.nn.init.normal_(parameter, std=(1 / parameter[0].numel()) ** 0.5)
    torch.nn.init.normal_(model.proposal_generator.centernet_head.agn_hm.weight, std=0.06)
    return DeticDetector(model)


def peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIBIBYTE, 2)


def run_ours(options: argparse.Namespace) -> dict[str, object]:
    import torch

    torch.set_num_threads(options.threads)
    detector, image = network(options.variant), picture(options.side)
    detector.to(getattr(torch, options.dtype))
    encoded = detector.encode_image(image, short_side=options.side)
    embeds = torch.randn(CLASSES, detector.embed_dim)

    def seconds(count: int, **settings: object) -> list[float]:
        return best_of(options.runs, lambda: detector.detect(encoded, embeds[:count], **settings))

    threshold = float(detector.model.scores(encoded, embeds[:20]).max()) * 0.97  # a few boxes, as in use
    found = detector.detect(encoded, embeds[:20], threshold=threshold)
    return {
        "variant": options.variant,
        "dtype": options.dtype,
        "input": f"{encoded.input_size[0]}x{encoded.input_size[1]}",
        "proposals": len(encoded.boxes),
        "encode_s": best_of(options.runs, lambda: detector.encode_image(image, short_side=options.side)),
        "detect_1_prompt_s": seconds(1, threshold=0.02, masks=False),
        "detect_20_prompts_s": seconds(20, threshold=0.02, masks=False),
        "detect_1203_prompts_s": seconds(CLASSES, threshold=0.02, masks=False),
        f"detect_20_prompts_{len(found)}_masks_s": seconds(20, threshold=threshold),
        "peak_gib": peak(),
    }


def run_reference(options: argparse.Namespace) -> dict[str, object]:
    """The reference's whole forward pass, class vectors set once, masks off: what ``encode`` and ``detect`` do."""
    sys.path[:0] = [str(options.reference), str(options.reference / "third_party" / "CenterNet2")]
    try:
        from centernet.config import add_centernet_config
        from detectron2.config import get_cfg
        from detectron2.modeling import build_model
        from detic.config import add_detic_config
    except ImportError as error:
        return {"variant": options.variant, "reference": f"cannot be imported here ({error}); own figures only"}
    import numpy as np
    import torch

    from bind2gen.hosts.boxes.detic.loading import EXTRA

    torch.set_num_threads(options.threads)
    detector, image = network(options.variant), picture(options.side)
    cfg = get_cfg()
    add_centernet_config(cfg)
    add_detic_config(cfg)
    cfg.merge_from_file(str(options.reference / "configs" / CONFIGS[options.variant]))
    cfg.MODEL.DEVICE, cfg.MODEL.MASK_ON, cfg.MODEL.TIMM.PRETRAINED = "cpu", False, False
    cfg.MODEL.ROI_BOX_HEAD.ZEROSHOT_WEIGHT_PATH = str(options.classes)
    # The configs name it from their own root, wherever this runs.
    cfg.MODEL.ROI_BOX_HEAD.CAT_FREQ_PATH = str(options.reference / cfg.MODEL.ROI_BOX_HEAD.CAT_FREQ_PATH)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(np.load(options.classes))
    model = build_model(cfg).eval()
    lacking = model.load_state_dict(detector.model.state_dict(), strict=False).missing_keys
    if missing := [key for key in lacking if not EXTRA.fullmatch(key)]:
        raise SystemExit(f"the reference has parameters that we lack: {missing}")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    inputs = [{"image": pixels, "height": image.height, "width": image.width}]
    with torch.no_grad():
        seconds = best_of(options.runs, lambda: model(inputs))
    return {"variant": options.variant, "reference_s": seconds, "reference_peak_gib": peak()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variants", nargs="+", choices=CONFIGS, default=["resnet-50", "swin-b"])
    parser.add_argument("--side", type=int, default=800, help="short side in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dtype", default="float32", help="ours; the reference has float32")
    parser.add_argument("--reference", type=Path, help="checkout of facebookresearch/Detic")
    parser.add_argument("--classes", type=Path, help="class vectors for the reference, .npy")
    parser.add_argument("--variant", choices=CONFIGS, help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=("ours", "reference"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        run = run_ours if options.stage == "ours" else run_reference
        sys.stdout.write(json.dumps(run(options), indent=1) + "\n")
        return
    if options.reference and not options.classes:
        parser.error("--reference needs --classes")
    for variant in options.variants:
        for stage in ("ours", "reference") if options.reference else ("ours",):
            command = [sys.executable, __file__, *sys.argv[1:], "--variant", variant, "--stage", stage]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
