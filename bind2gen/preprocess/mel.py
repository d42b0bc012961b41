"""The mel front end: many waveforms at once, on CPU or GPU, equal to Kaldi's fbank one by one.

Kaldi options that all settings share (facebookresearch/ImageBind, imagebind/data.py): hanning window, 25 ms frames
every 10 ms, no dither, power-of-two FFT, edges snipped, no energy column.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import torch
import torch.nn.functional as F

from ..errors import DependencyError, ShapeError
from .audio_settings import FRAME_LENGTH, FRAME_SHIFT, AudioSettings
from .sources import one_line

LOG_FLOOR = torch.finfo(torch.float32).eps  # Kaldi takes the log of no less than this
FRAMES_AT_ONCE = 1 << 16  # bounds memory: a frame takes about 10 kB while in work
FRAMES_AT_ONCE_CPU = 600  # what the caches hold: more at once is several times as slow
BANKS_TOGETHER = 32  # mel banks that are summed by one matrix product

Banks = list[tuple[int, torch.Tensor]]  # first bin that counts, and weights (bins, banks)


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
def _window_and_banks(
    sample_rate: int, num_mel_bins: int, low_freq: float, high_freq: float, device: torch.device
) -> tuple[torch.Tensor, Banks]:
    """The hanning window without its first weight, zeros behind it, (fft,); and the mel banks; float32.

    A bank takes a few bins only, low ones two or three: neighbours are held together with the bins that they share.
    """
    frame = int(sample_rate * FRAME_LENGTH)
    fft = 1 << (frame - 1).bit_length()
    # Arguments: banks, FFT, rate, low and high cut, then the unused vocal-tract warping (1 = none).
    make_banks = torchaudio().compliance.kaldi.get_mel_banks
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        weights, _ = make_banks(num_mel_bins, fft, float(sample_rate), low_freq, high_freq, 100.0, -500.0, 1.0)
        banks = []
        for part in weights.float().split(BANKS_TOGETHER):  # (banks, fft // 2): the Nyquist bin belongs to none
            used = part.any(dim=0).nonzero()[:, 0].tolist() or [0]
            banks.append((used[0], part[:, used[0] : used[-1] + 1].T.contiguous().to(device)))
        window = torch.hann_window(frame, periodic=False, dtype=torch.float32)[1:]
        return F.pad(window, (0, fft - len(window))).to(device), banks


def frame_samples(settings: AudioSettings) -> int:
    """Samples of one 25 ms frame: the shortest waveform that :func:`log_mel` takes."""
    return int(settings.sample_rate * FRAME_LENGTH)


def frame_shift(settings: AudioSettings) -> int:
    """Samples from the start of one frame to that of the next."""
    return int(settings.sample_rate * FRAME_SHIFT)


def _used(settings: AudioSettings) -> int:
    """Samples up to the end of the last frame that is kept."""
    return frame_samples(settings) + frame_shift(settings) * (settings.target_length - 1)


def log_mel(waveforms: torch.Tensor, settings: AudioSettings) -> torch.Tensor:
    """Normalised log-mel pictures of equally long clips.

    A clip's mean does not matter, for each frame's own mean is taken off. Missing frames are filled with 0 BEFORE
    normalisation (a quirk of the reference, and so of the released weights) or by repeating the sound, as
    ``settings.padding`` says; surplus frames are cut.

    Args:
        waveforms: (N, samples) float at ``settings.sample_rate`` Hz, values in -1..1, at least 25 ms; never written to.
        settings: rate, mel bins, frames, padding, normalisation.

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
    used = _used(settings)
    if settings.padding == "repeat" and waveforms.shape[1] < used:
        waveforms = waveforms.repeat(1, -(-used // waveforms.shape[1]))
    mel = _frames(waveforms[:, :used], settings)  # (N, frames, mel)
    pictures = _padding(mel, len(waveforms), settings)
    pictures[:, 0, :, : mel.shape[1]] = mel.mT
    return pictures


def log_mel_clips(sound: torch.Tensor, bounds: list[tuple[int, int]], settings: AudioSettings) -> torch.Tensor:
    """:func:`log_mel` of overlapping clips of one sound: frames that several clips share are computed once.

    Args:
        sound: (samples,) float at ``settings.sample_rate`` Hz.
        bounds: first sample and one past the last of each clip; lengths may differ by rounding, the shortest is taken.
        settings: as for :func:`log_mel`.

    Returns:
        (S, 1, num_mel_bins, target_length) float32.
    """
    length, shift = min(end - start for start, end in bounds), frame_shift(settings)
    first, last = min(start for start, _ in bounds), max(end for _, end in bounds)
    apart = last - first > length * len(bounds)
    apart |= settings.padding == "repeat" and length < _used(settings)  # each is repeated by itself
    if apart or length < frame_samples(settings) or any((start - first) % shift for start, _ in bounds):
        return log_mel(torch.stack([sound[start : start + length] for start, _ in bounds]), settings)
    mel = _frames(sound[None, first:last], settings)[0].T  # (mel, frames)
    pictures = _padding(mel, len(bounds), settings)
    count = min(1 + (length - frame_samples(settings)) // shift, settings.target_length)
    for picture, (start, _) in zip(pictures, bounds, strict=True):
        place = (start - first) // shift
        picture[0, :, :count] = mel[:, place : place + count]
    return pictures


def _padding(mel: torch.Tensor, count: int, settings: AudioSettings) -> torch.Tensor:
    """(count, 1, num_mel_bins, target_length) of what the value 0 becomes by normalisation."""
    size = (count, 1, settings.num_mel_bins, settings.target_length)
    return mel.new_full(size, -settings.mean / settings.std)


def _frames(waveforms: torch.Tensor, settings: AudioSettings) -> torch.Tensor:
    """Normalised log-mel values of all frames of (N, samples): (N, frames, mel) float32."""
    limit = FRAMES_AT_ONCE_CPU if waveforms.device.type == "cpu" else FRAMES_AT_ONCE
    frame, shift = frame_samples(settings), frame_shift(settings)
    count = 1 + (waveforms.shape[1] - frame) // shift
    if count > limit:
        starts = range(0, count, limit)
        parts = [waveforms[:, start * shift : (start + limit - 1) * shift + frame] for start in starts]
        return torch.cat([_frames(part, settings) for part in parts], dim=1)
    made = [_frames_together(part, settings) for part in waveforms.float().split(max(1, limit // count))]
    return made[0] if len(made) == 1 else torch.cat(made)


def _frames_together(waveforms: torch.Tensor, settings: AudioSettings) -> torch.Tensor:
    bands = settings.num_mel_bins, settings.low_freq, settings.high_freq
    window, banks = _window_and_banks(settings.sample_rate, *bands, waveforms.device)
    emphasis = settings.preemphasis_coefficient
    frame, fft, shift = frame_samples(settings), len(window), frame_shift(settings)
    # Kaldi takes each frame's mean off, pre-emphasises and then weighs it. All of that is linear, so the whole signal
    # is pre-emphasised once, and what is left of the mean taken off. The window's first weight is 0: the first sample
    # of a frame, pre-emphasised against itself, need not be there, and power does not change with a shift by one.
    left = waveforms.unfold(1, frame, shift).mean(dim=2, keepdim=True) * (1 - emphasis)
    emphasised = torch.sub(waveforms[:, 1:], waveforms[:, :-1], alpha=emphasis)
    frames = F.pad(emphasised, (0, fft - frame + 1)).unfold(1, fft, shift)  # edges snipped: the window hides the rest
    spectrum = torch.fft.rfft((frames - left).mul_(window))  # (N, frames, fft // 2 + 1)
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    power = power if settings.use_power else power.sqrt()
    with torch.autocast(waveforms.device.type, enabled=False):  # half precision would ruin quiet bins
        mel = torch.cat([power[..., first : first + len(weights)] @ weights for first, weights in banks], dim=2)
    return mel.clamp_min_(LOG_FLOOR).log_().sub_(settings.mean).div_(settings.std)  # (N, frames, mel)
