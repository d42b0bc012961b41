"""The mel front end: many waveforms at once, on CPU or GPU, equal to Kaldi's fbank one by one.

Kaldi options that ImageBind was trained with (facebookresearch/ImageBind, imagebind/data.py): hanning window, 25 ms
frames every 10 ms, no dither, pre-emphasis 0.97, mel banks from 20 Hz to Nyquist, power-of-two FFT, edges snipped, no
energy column.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ..errors import DependencyError, ShapeError
from .sources import one_line

if TYPE_CHECKING:
    from .audio import AudioSettings

FRAME_LENGTH = 0.025  # s
FRAME_SHIFT = 0.010  # s
PRE_EMPHASIS = 0.97
LOW_CUT = 20.0  # Hz
LOG_FLOOR = torch.finfo(torch.float32).eps  # Kaldi takes the log of no less than this
CLIPS_AT_ONCE = 256  # bounds memory: a 2 s clip takes about 2 MB while in work
CLIPS_AT_ONCE_CPU = 8  # what the caches hold: more at once is twice as slow


def torchaudio() -> ModuleType:
    """The torchaudio package, or an error that says how to mend its one common fault.

    Raises:
        DependencyError: torchaudio is missing, or was built for another CUDA version than torch.
    """
    try:
        import torchaudio
        import torchaudio.compliance.kaldi
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            f"torchaudio does not load beside torch {torch.__version__} ({one_line(error)}); the newest torchaudio is "
            "built for one CUDA version only: pip install 'torch>=2.11,<2.15' torchvision torchaudio"
        ) from error
    return torchaudio


@lru_cache(maxsize=16)
def _window_and_banks(sample_rate: int, num_mel_bins: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The hanning window (frame,) and the mel banks (fft // 2 + 1, num_mel_bins), both float32."""
    frame = int(sample_rate * FRAME_LENGTH)
    fft = 1 << (frame - 1).bit_length()
    # Arguments: banks, FFT, rate, low cut, high cut 0 = Nyquist, then the unused vocal-tract warping (1 = none).
    make_banks = torchaudio().compliance.kaldi.get_mel_banks
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        banks, _ = make_banks(num_mel_bins, fft, float(sample_rate), LOW_CUT, 0.0, 100.0, -500.0, 1.0)
        banks = F.pad(banks.float(), (0, 1)).T.contiguous()  # the Nyquist bin belongs to no bank
        return torch.hann_window(frame, periodic=False, dtype=torch.float32, device=device), banks.to(device)


def frame_samples(settings: AudioSettings) -> int:
    """Samples of one 25 ms frame: the shortest waveform that :func:`log_mel` takes."""
    return int(settings.sample_rate * FRAME_LENGTH)


def log_mel(waveforms: torch.Tensor, settings: AudioSettings) -> torch.Tensor:
    """Normalised log-mel pictures of equally long clips.

    Each clip's mean is taken off first. Missing frames are filled with 0 BEFORE normalisation (a quirk of the
    reference, and so of the released weights), surplus frames are cut.

    Args:
        waveforms: (N, samples) float at ``settings.sample_rate`` Hz, values in -1..1, at least 25 ms; never written to.
        settings: rate, mel bins, frames, normalisation.

    Returns:
        (N, 1, num_mel_bins, target_length) float32 on the device of ``waveforms``.

    Raises:
        ShapeError: another rank or dtype, or less than one frame.
        DependencyError: torchaudio is missing or broken.
    """
    frame = frame_samples(settings)
    if waveforms.ndim != 2 or not waveforms.is_floating_point() or 0 in waveforms.shape or waveforms.shape[1] < frame:
        came = f"{tuple(waveforms.shape)} {waveforms.dtype}"
        raise ShapeError(f"log_mel: wanted (N, samples) float with at least {frame} samples, got {came}")
    together = CLIPS_AT_ONCE_CPU if waveforms.device.type == "cpu" else CLIPS_AT_ONCE
    with torch.autocast(waveforms.device.type, enabled=False):  # half precision would ruin quiet bins
        return torch.cat([_log_mel(part.float(), settings) for part in waveforms.split(together)])


def _log_mel(waveforms: torch.Tensor, settings: AudioSettings) -> torch.Tensor:
    window, banks = _window_and_banks(settings.sample_rate, settings.num_mel_bins, waveforms.device)
    shift = int(settings.sample_rate * FRAME_SHIFT)
    used = len(window) + shift * (settings.target_length - 1)  # samples behind the last frame that is kept
    centred = waveforms - waveforms.mean(dim=1, keepdim=True)
    frames = centred[:, :used].unfold(1, len(window), shift)  # (N, frames, frame), edges snipped
    frames = frames - frames.mean(dim=2, keepdim=True)
    # Kaldi's first sample of a frame is pre-emphasised against itself.
    previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
    frames = (frames - PRE_EMPHASIS * previous) * window
    power = torch.fft.rfft(frames, n=2 * (len(banks) - 1)).abs().square()  # (N, frames, fft // 2 + 1)
    mel = (power @ banks).clamp_min(LOG_FLOOR).log().transpose(1, 2)  # (N, mel, frames)
    mel = F.pad(mel, (0, settings.target_length - mel.shape[2]))
    return ((mel - settings.mean) / settings.std).unsqueeze(1)
