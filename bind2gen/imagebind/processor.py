"""The processor: any mix of raw inputs to what :class:`ImageBindModel` takes."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, BatchFeature, ProcessorMixin
from transformers.utils import cached_file

from ..errors import Bind2GenError, Bind2GenWarning, EmptyInputError, InputError, ShapeError, UnreadableError
from ..files.hub import HUB_OPTIONS
from ..modality import MODALITIES, clip_mask_key
from ..preprocess import audio, depth, image, imu, text, thermal, video
from ..preprocess.settings import Settings
from ..preprocess.sources import one_line
from .config import ImageBindConfig
from .fronts import FRONTS, Device, collected, padded
from .misplaced import meant_as
from .read_ahead import read_ahead

# Beside processor_config.json where the vocabulary is not CLIP's own, by what it holds.
VOCABULARY_FILES = {"pairs": "bpe_vocabulary.txt.gz", "words": "words.txt.gz"}


class ImageBindFeatures(BatchFeature):
    """What the processor gives: tensors by model input name, ``(B, S, *sample)``, and their clip masks.

    Attributes:
        clip_times: by modality (audio, video, IMU), start and end of each clip in seconds, (B, S, 2); zero where a clip
            only pads the batch. Not a model input, so not among the items.
    """

    clip_times: dict[str, torch.Tensor]


class ImageBindProcessor(ProcessorMixin):
    """Raw inputs of all seven kinds to the inputs of :class:`ImageBindModel`.

    Args:
        text, image, audio, video, depth, thermal, imu: settings of each (or their dict form); None is imagebind_huge's.
            For another model use :meth:`for_config`, which reads sizes from the model's config.
    """

    def __init__(
        self,
        text: text.TextSettings | dict[str, Any] | None = None,
        image: image.ImageSettings | dict[str, Any] | None = None,
        audio: audio.AudioSettings | dict[str, Any] | None = None,
        video: video.VideoSettings | dict[str, Any] | None = None,
        depth: depth.DepthSettings | dict[str, Any] | None = None,
        thermal: thermal.ThermalSettings | dict[str, Any] | None = None,
        imu: imu.ImuSettings | dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        settings_of = dict(text=text, image=image, audio=audio, video=video, depth=depth, thermal=thermal, imu=imu)
        for name, given in settings_of.items():
            kind = FRONTS[name].settings
            settings = kind.from_dict(given or {}) if given is None or isinstance(given, dict) else given
            if not isinstance(settings, kind):
                came = type(given).__name__
                raise InputError(f"{name}: wanted {kind.__name__}, a dict of its fields or None, got {came}")
            setattr(self, name, settings)

    def __call__(
        self,
        text: Any = None,
        images: Any = None,
        audio: Any = None,
        video: Any = None,
        depth: Any = None,
        thermal: Any = None,
        imu: Any = None,
        *,
        image: Any = None,
        videos: Any = None,
        sampling_rate: float | None = None,
        return_tensors: str | None = "pt",
        device: Device | None = None,
    ) -> ImageBindFeatures:
        """Read and transform; each argument is one input or a list of them (only a ``list`` is a batch).

        Args:
            text: strings.
            image, images: paths, bytes, file objects, PIL images, arrays (H, W, 3), tensors (3, H, W), datasets'
                ``{"bytes": ..., "path": ...}``; in RGB order, one of OpenCV's goes in as ``picture[..., ::-1]``. Two
                names of one argument: bind2gen's and transformers'.
            audio: paths, bytes, file objects, ``(array, rate)``, arrays or tensors (see ``sampling_rate``).
            video, videos: paths, bytes, file objects, ``(frames, frames per second)``.
            depth: 16-bit or float pictures, arrays in metres; or what ``preprocess.depth.load`` gives, where
                a sensor is to be named.
            thermal: grey, radiometric or false-colour pictures, or what :func:`bind2gen.preprocess.thermal.load` gives.
            imu: recordings as files or arrays (6, N), or what :func:`bind2gen.preprocess.imu.load` gives.
            sampling_rate: Hz, of sounds and motion given as arrays without a rate.
            return_tensors: ``"pt"`` or ``"np"``.
            device: where to compute and to leave the tensors; default is where the inputs are (files: the CPU).

        Returns:
            ``input_ids``, ``pixel_values``, ``audio_values``, ``video_values``, ``depth_values``, ``thermal_values``,
            ``imu_values`` of what was given, each (B, S, *sample);
            ``<name>_clip_mask`` (B, S) bool where items of a batch differ in clips; ``.clip_times``.

        Raises:
            InputError: a subclass of it names the input and the problem; nothing was given at all.
        """
        if return_tensors not in ("pt", "np", None):
            raise InputError(f"return_tensors: wanted 'pt' or 'np', got {return_tensors!r}")
        for name, one, other in (("image", image, images), ("video", video, videos)):
            if one is not None and other is not None:
                raise InputError(f"{name} and {name}s are two names of one argument; give one of them")
        given = dict(
            text=text,
            image=images if image is None else image,
            audio=audio,
            video=videos if video is None else video,
            depth=depth,
            thermal=thermal,
            imu=imu,
        )
        data: dict[str, torch.Tensor] = {}
        times: dict[str, torch.Tensor] = {}
        for name, value in given.items():
            if value is None:
                continue
            items = self._items(name, value)
            raws = self._loaded(name, items, sampling_rate)
            clips = FRONTS[name].transform(raws, getattr(self, name), device)
            data[MODALITIES[name].input_key], mask, spans = collected(clips, len(items))
            if mask is not None:
                data[clip_mask_key(MODALITIES[name])] = mask
            if spans[0] is not None:
                times[name] = padded(spans)[0]
        if not data:
            raise InputError("nothing to process: give text, image, audio, video, depth, thermal or imu")
        if return_tensors == "np":
            data = {key: value.cpu().numpy() for key, value in data.items()}
        features = ImageBindFeatures(data)
        features.clip_times = times
        return features

    def _items(self, name: str, value: Any) -> list[Any]:
        items = value if isinstance(value, list) else [value]
        if not items:
            raise EmptyInputError(f"{name}: wanted at least one input, got an empty list")
        if isinstance(value, list) and isinstance(items[0], int | float):
            raise ShapeError(f"{name}: a list is a batch, and this one holds numbers; pass an array instead")
        return items

    def _loaded(self, name: str, items: list[Any], sampling_rate: float | None) -> Iterator[Any]:
        front, settings = FRONTS[name], getattr(self, name)
        calls = [partial(front.load, item, settings, sampling_rate) for item in items]
        # Only paths and bytes: the same file object may be in the list twice.
        threaded = front.threaded and all(isinstance(item, str | os.PathLike | bytes) for item in items)
        for i, result in enumerate(read_ahead(calls) if threaded else calls):
            try:
                raw = result()
            except Bind2GenError as error:
                where, hint = f"{name}[{i}]: " if len(items) > 1 else "", meant_as(name, items[i])
                raise type(error)(f"{where}{error}{hint}") from error
            if name == "text" and (hint := meant_as(name, raw)):  # the name of a file
                warnings.warn(f"text: {one_line(raw)!r} is a file, and read as words{hint}", Bind2GenWarning, 4)
            yield raw

    @property
    def model_input_names(self) -> list[str]:
        return [MODALITIES[name].input_key for name in FRONTS]

    # ---- agreement with a model ----

    @classmethod
    def for_config(
        cls,
        config: ImageBindConfig,
        *,
        text: text.TextSettings | dict[str, Any] | None = None,
        image: image.ImageSettings | dict[str, Any] | None = None,
        audio: audio.AudioSettings | dict[str, Any] | None = None,
        video: video.VideoSettings | dict[str, Any] | None = None,
        depth: depth.DepthSettings | dict[str, Any] | None = None,
        thermal: thermal.ThermalSettings | dict[str, Any] | None = None,
        imu: imu.ImuSettings | dict[str, Any] | None = None,
    ) -> ImageBindProcessor:
        """A processor that fits a model: picture size, context length, mel bins and frames come from its towers.

        Args:
            config: of the model.
            text, image, audio, video, depth, thermal, imu: settings to use; a dict gives some fields and leaves the
                others to the towers.

        Raises:
            InputError: a given setting disagrees with the model, or its text tower has not CLIP's vocabulary.
        """
        given = dict(text=text, image=image, audio=audio, video=video, depth=depth, thermal=thermal, imu=imu)
        settings: dict[str, Settings] = {}
        for name, front in FRONTS.items():
            if isinstance(given[name], Settings):
                settings[name] = given[name]
            elif MODALITIES[name].tower in config.towers:
                tower = config.tower(MODALITIES[name].tower)
                derived = front.advice(tower) | front.sizes(tower)
                settings[name] = front.settings.from_dict(derived | (given[name] or {}))
            else:
                settings[name] = front.settings.from_dict(given[name] or {})
        processor = cls(**settings)
        processor.check(config, names=["text", *(name for name, value in given.items() if value is not None)])
        return processor

    def disagreements(self, config: ImageBindConfig, *, names: list[str] | None = None) -> list[str]:
        """Each setting that does not fit the model's towers, in words; empty if all is well.

        Args:
            config: of the model; modalities without a tower are passed over.
            names: modalities to look at; default is all.
        """
        found = []
        for name, front in FRONTS.items():
            kind = MODALITIES[name]
            if kind.tower not in config.modalities or (names is not None and name not in names):
                continue
            tower = config.tower(kind.tower)
            for field, wanted in front.sizes(tower).items():
                if (came := getattr(getattr(self, name), field)) != wanted:
                    found.append(f"{name}.{field} is {came}, the model's {kind.tower} tower wants {wanted}")
            if name == "text":
                size, known = text.vocabulary_size(self.text), tower.vocab_size
                # Merges are numbered alike in every table; a word's number is its place in the tower's own.
                if size > known or (self.text.units == "words" and size != known):
                    found.append(f"text.vocabulary has {size} tokens, the model's text tower knows {known}")
        return found

    def check(self, config: ImageBindConfig, *, names: list[str] | None = None) -> None:
        """Raise :class:`InputError` that names every setting in :meth:`disagreements`."""
        if found := self.disagreements(config, names=names):
            words = "; ".join(found)
            raise InputError(f"processor and model disagree: {words}; use the processor that was saved with the model")

    # ---- saving and loading ----

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; a vocabulary of one's own is named as the file that :meth:`save_pretrained` lays beside it."""
        values: dict[str, Any] = {name: getattr(self, name).to_dict() for name in FRONTS}
        if self.text.vocabulary is not None:
            values["text"]["vocabulary"] = VOCABULARY_FILES[self.text.units]
        return values | {"processor_class": type(self).__name__}

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        # Called by save_pretrained; the vocabulary goes along here, so that it is pushed to the hub with the rest.
        if self.text.vocabulary is not None:
            target = Path(json_file_path).with_name(VOCABULARY_FILES[self.text.units])
            if not (target.exists() and target.samefile(self.text.vocabulary)):
                shutil.copyfile(self.text.vocabulary, target)
        super().to_json_file(json_file_path)

    @classmethod
    def get_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Called by ``from_pretrained``: find the vocabulary that the settings name, in the folder or on the hub."""
        options = {k: kwargs[k] for k in HUB_OPTIONS if kwargs.get(k) is not None}
        try:
            values, unused = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        except (OSError, ValueError, RecursionError, TypeError, AttributeError) as error:  # no JSON, or no table
            where = pretrained_model_name_or_path
            raise UnreadableError(f"{where}: its processor_config.json cannot be read ({one_line(error)})") from None
        if not values:  # transformers goes on with nothing, which would be imagebind_huge's settings for any model
            where = "/".join(str(part) for part in (pretrained_model_name_or_path, kwargs.get("subfolder")) if part)
            advice = "the processor is saved apart from the model"
            raise UnreadableError(f"{where}: wanted a folder with processor_config.json, found none; {advice}")
        settings = values.get("text")
        if isinstance(settings, dict) and settings.get("vocabulary") is not None:
            where = Path(pretrained_model_name_or_path)
            where = where.parent if where.is_file() else pretrained_model_name_or_path
            name = VOCABULARY_FILES.get(settings.get("units"), VOCABULARY_FILES["pairs"])  # older files say no units
            try:
                values["text"] = settings | {"vocabulary": cached_file(where, name, **options)}
            except OSError as error:
                message = f"{where}: wanted {name} beside processor_config.json, cannot get it ({one_line(error)})"
                raise UnreadableError(message) from None
        return values, unused


AutoProcessor.register(ImageBindConfig, ImageBindProcessor, exist_ok=True)
