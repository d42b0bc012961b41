"""A sound to a picture with diffusers' own import; needs `pip install bind2gen`, and no network."""

from pathlib import Path

import torch
from diffusers import DiffusionPipeline

model = Path(__file__).resolve().parents[2] / "adapters" / "mini"  # or the name of a repository on the hub
pipe = DiffusionPipeline.from_pretrained(model, trust_remote_code=True)
picture = pipe(audio=model / "sounds" / "dog.flac", generator=torch.Generator().manual_seed(0)).images[0]
picture.save("dog.png")
