"""Sound (or picture, text, video, any blend) to picture: ImageBind in front of a Stable unCLIP host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch
from diffusers import AutoencoderKL, StableUnCLIPImg2ImgPipeline, UNet2DConditionModel
from diffusers.configuration_utils import FrozenDict
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from ..errors import HostError, InputError
from ..hosts.pictures import unclip, unclip_steps
from ..hosts.pictures.feature_autoencoder import FeatureAutoencoder
from ..hosts.pictures.packaged import PackagedPipelineMixin
from ..hosts.pictures.turns import one_at_a_time
from ..hosts.pictures.unclip_arguments import MAX_IMAGES, check_generator, check_numbers, check_scheduler, check_words
from ..hosts.pictures.unclip_files import OPTIONAL_PARTS, PARTS, load_host
from ..imagebind.loading import load_imagebind, load_processor
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..space.adapter import EmbeddingAdapter
from .conditioning import ImageBindConditioning, check_inputs
from .parts import fitting_adapter, load_adapter, of_host, saved_adapter, with_facts


@dataclass
class ImageBindPipelineOutput(BaseOutput):
    """What a call gives.

    Attributes:
        images: pictures, input by input, ``num_images_per_prompt`` of each.
        image_embeds: (B, D) float32 conditioning vectors that were used, of the host's length.
        embeds: modality -> (B or 1, D) unit-norm ImageBind embeddings of what was given.
        roundtrip: of each picture: cosine, -1..1, of its own embedding with what it was drawn from; None if not asked.
    """

    images: list[PIL.Image.Image] | Any  # an array or tensor where ``output_type`` asks for one
    image_embeds: torch.Tensor
    embeds: dict[str, torch.Tensor]
    roundtrip: torch.Tensor | None = None


class ImageBindUnCLIPPipeline(
    ImageBindConditioning, unclip_steps.SteppedMixin, PackagedPipelineMixin, StableUnCLIPImg2ImgPipeline
):
    """A Stable unCLIP host that is prompted by ImageBind embeddings.

    Everything that the host can do (offloading, attention slicing, schedulers, LoRA) is inherited from it.

    Args:
        imagebind, processor: the encoder and its front ends.
        adapter: moves and blends embeddings; see :class:`EmbeddingAdapter`.
        image_encoder, feature_extractor: of the host, not used here and so optional.
        others: the host's components, as in diffusers.
        guidance_scale, guidance_rescale: defaults of a call, which become the adapter's; default is what it has.

    Raises:
        HostError: encoder, adapter and host are of different widths.
        InputError: the processor makes inputs of other sizes than the encoder takes.
    """

    model_cpu_offload_seq = "imagebind->text_encoder->image_encoder->unet->vae"
    _optional_components = list(OPTIONAL_PARTS)
    _exclude_from_cpu_offload = ["image_normalizer", "adapter"]
    _callback_tensor_inputs = list(unclip_steps.CALLBACK_TENSORS)
    preview_inputs = (unclip_steps.ESTIMATE,)

    def __init__(
        self,
        imagebind: ImageBindModel,
        processor: ImageBindProcessor,
        adapter: EmbeddingAdapter,
        image_normalizer: StableUnCLIPImageNormalizer,
        image_noising_scheduler: KarrasDiffusionSchedulers,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        vae: AutoencoderKL | FeatureAutoencoder,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
    ) -> None:
        super().__init__(
            feature_extractor=feature_extractor,
            image_encoder=image_encoder,
            image_normalizer=image_normalizer,
            image_noising_scheduler=image_noising_scheduler,
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            unet=unet,
            scheduler=scheduler,
            vae=vae,
        )
        adapter = with_facts(adapter, {"guidance_scale": guidance_scale, "guidance_rescale": guidance_rescale})
        self.register_modules(imagebind=imagebind, processor=processor, adapter=adapter)
        processor.check(imagebind.config)
        adapter.claim(imagebind)
        unclip.check_host(self, adapter.width)

    @classmethod
    def from_host(
        cls,
        host: StableUnCLIPImg2ImgPipeline | str | os.PathLike[str],
        *,
        imagebind: ImageBindModel | str | os.PathLike[str],
        processor: ImageBindProcessor | None = None,
        adapter: EmbeddingAdapter | str | os.PathLike[str] | None = None,
        modalities: list[str] | None = None,
        dtype: torch.dtype | None = None,
        **load_options: Any,
    ) -> ImageBindUnCLIPPipeline:
        """Put ImageBind in front of a Stable unCLIP host.

        Args:
            host: a loaded pipeline (its modules are shared, nothing is copied), or its folder or hub id.
            imagebind: a loaded model, its folder or hub id, or the official ``imagebind_huge.pth``.
            processor: default is the one saved with ``imagebind``, for released weights the known one.
            adapter: or its folder, as ``bind2gen fit-gap`` writes it; default is the host's own if ``imagebind`` is its
                own encoder, else the one in ``adapter`` beside ``imagebind``, else one that blends without a shift over
                the modality gap, with a warning.
            modalities: build and load only these towers, where ``imagebind`` is a path; default is all.
            dtype: of what is loaded here.
            load_options: for the host's ``from_pretrained``.

        Raises:
            HostError: ``host`` is no Stable unCLIP, or takes another width.
            CheckpointError: ``imagebind`` or ``adapter`` cannot be loaded, or the encoder has no processor.
        """
        place, source = host, imagebind
        if isinstance(adapter, str | os.PathLike):
            adapter = load_adapter(adapter)
        if isinstance(host, StableUnCLIPImg2ImgPipeline):
            own = getattr(host, "adapter", None)
        elif isinstance(host, str | os.PathLike):
            host = load_host(place, dtype=dtype, **load_options)
            own = saved_adapter(place)
        else:
            kind = type(host).__name__
            raise HostError(f"host: wanted a StableUnCLIPImg2ImgPipeline, its folder or hub id, got {kind}")
        if not isinstance(source, ImageBindModel):
            processor = processor or load_processor(source)  # refused before gigabytes are read
            imagebind = load_imagebind(source, modalities=modalities, dtype=dtype or host.unet.dtype)
        its_own = own is not None and (imagebind is getattr(host, "imagebind", None) or own.fits(imagebind))
        if processor is None and its_own:
            processor = getattr(host, "processor", None) or load_processor(place)
        adapter = of_host(adapter, own) if adapter is not None else own if its_own else None
        unclip.check_host(host, adapter.width if adapter else imagebind.config.embed_dim)
        return cls(
            imagebind,
            processor or load_processor(imagebind),
            adapter or fitting_adapter(imagebind, own, source),
            **{name: getattr(host, name) for name in PARTS},
        )

    @property
    def config(self) -> FrozenDict:
        """As saved, and the guidance that the adapter brings: it belongs to a part, not to the index of a folder."""
        own = self.adapter.config if "adapter" in self.__dict__ else {}
        guidance = {name: default if own.get(name) is None else own[name] for name, default in unclip.GUIDANCE.items()}
        return FrozenDict({**super().config, **guidance})

    @property
    def host_norm(self) -> float:
        return unclip.host_norm(self)

    @property
    def defaults(self) -> dict[str, Any]:
        return super().defaults | {name: self.config[name] for name in unclip.GUIDANCE}

    def preview(self, tensors: Mapping[str, torch.Tensor]) -> list[PIL.Image.Image]:
        return unclip.decode(self, tensors[unclip_steps.ESTIMATE], "pil")

    @torch.no_grad()
    def __call__(
        self,
        audio: Any = None,
        image: Any = None,
        text: Any = None,
        video: Any = None,
        depth: Any = None,
        thermal: Any = None,
        imu: Any = None,
        *,
        weights: Mapping[str, float] | None = None,
        sampling_rate: float | None = None,
        image_embeds: torch.Tensor | None = None,
        rescale_embeds: bool = True,
        negative: Mapping[str, Any] | torch.Tensor | None = None,
        prompt: str | list[str] = "",
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        noise_level: int = 0,
        num_inference_steps: int = 20,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        num_images_per_prompt: int = 1,
        best_of: int = 1,
        return_roundtrip: bool = False,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: unclip_steps.StepCallback | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
    ) -> ImageBindPipelineOutput | Any:  # a tuple where ``return_dict`` is False
        """Make pictures of what is heard, seen or said. Calls from several threads wait for one another.

        Args:
            audio, image, text, video, depth, thermal, imu: one input or a list of them (a batch), any mix; a single
                one is shared by the batch. ``text`` goes through ImageBind; ``prompt`` is the host's own text input.
            weights: modality -> weight in the blend; 1 where not named; 0 leaves a modality out, negative subtracts.
            sampling_rate: Hz, of sounds given as arrays without a rate.
            image_embeds: (B, D) conditioning instead of inputs: any direction of the host's space, as of
                :meth:`condition`, scaled to the host's length unless ``rescale_embeds`` is False.
            negative: inputs by modality, or (1 or B, D): what the pictures are guided away from, in place of nothing.
            prompt, negative_prompt: one, or one for each input. The bundled model reads none, and a warning says so.
            height, width: pixels; default is what the host was trained on.
            noise_level: 0..999, noise on the embedding: more variety, less likeness.
            guidance_scale: 1 or less switches guidance off; default is the pipeline's own (10 for Stable unCLIP).
            guidance_rescale: 0..1, how far overexposure by guidance is taken back (arXiv 2305.08891, section 3.4);
                default is the pipeline's own (0 for Stable unCLIP).
            num_images_per_prompt: pictures an input.
            best_of: draw so many of each, and keep the one whose own embedding is nearest to its input.
            return_roundtrip: give that cosine too.
            generator: one, or a list with one a picture (that is drawn); with a list, picture i is the same alone.
            latents: (pictures, C, h, w) start of denoising, instead of drawn noise.
            output_type: ``"pil"``, ``"np"`` (N, H, W, 3) in 0..1, ``"pt"`` or ``"latent"``.
            callback_on_step_end: ``(pipe, step, timestep, tensors) -> tensors or None``, or one of
                ``diffusers.callbacks``. It may set ``pipe._guidance_scale`` and ``pipe._interrupt = True`` (to stop).
            callback_on_step_end_tensor_inputs: which of ``latents``, ``prompt_embeds``, ``class_labels`` it gets, and
                ``pred_original_sample``: the finished latents as this step expects them, for previews.
            clip_skip: layers left out at the end of the text encoder, for ``prompt``.

        Returns:
            :class:`ImageBindPipelineOutput`, or a tuple of its fields.

        Raises:
            InputError: an input cannot be read; nothing was given; a number is out of range.
            ModalityError: a modality without a tower, or a weight without its modality.
            ShapeError, HostError: batch sizes or widths that do not fit.
        """
        raw = dict(audio=audio, image=image, text=text, video=video, depth=depth, thermal=thermal, imu=imu)
        given = {name: value for name, value in raw.items() if value is not None}
        check_inputs(given, image_embeds, weights, prompt)
        check_scheduler(self.scheduler)
        with one_at_a_time(self.scheduler):
            self._start(guidance_scale, guidance_rescale, clip_skip, cross_attention_kwargs)
            inputs_of_callback = unclip_steps.callback_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs)
            noise = (noise_level, 0, self.image_noising_scheduler.config.num_train_timesteps - 1)
            check_numbers(
                self, num_inference_steps, num_images_per_prompt, noise_level=noise, best_of=(best_of, 1, MAX_IMAGES)
            )
            check_words(output_type, inputs_of_callback, unclip_steps.CALLBACK_TENSORS)
            size = unclip.picture_size(self, height, width)

            embeds = self.embed(**given, sampling_rate=sampling_rate) if given else {}
            conditioning = self.condition(embeds, weights) if given else self._direct(image_embeds, rescale_embeds)
            guided = {"guided": self.do_classifier_free_guidance, "scale": "guidance_scale"}
            negative = self._away(negative, rescale_embeds, **guided)
            num, looks = num_images_per_prompt * best_of, return_roundtrip or best_of > 1
            pictures, device = len(conditioning) * num, self._execution_device
            if looks and output_type != "pil":
                raise InputError("best_of and return_roundtrip: they look at pictures; leave output_type as it is")
            check_generator(generator, pictures)
            prompt_embeds, class_labels = unclip.unet_conditions(
                self, unclip.to_host(conditioning, device=device, dtype=self.unet.dtype), prompt, negative_prompt,
                negative=negative, noise_level=noise_level, num_images=num, generator=generator,
            )  # fmt: skip
            self.scheduler.set_timesteps(num_inference_steps, device=device)
            latents = unclip_steps.denoise(
                self,
                unclip.start_latents(self, latents, pictures, size, generator, device=device, dtype=self.unet.dtype),
                prompt_embeds,
                class_labels,
                step_options=self.prepare_extra_step_kwargs(generator, eta),
                callback=callback_on_step_end,
                inputs_of_callback=inputs_of_callback,
            )
            images = unclip.decode(self, latents, output_type)
            self.maybe_free_model_hooks()
        output = ImageBindPipelineOutput(images=images, image_embeds=conditioning, embeds=embeds)
        if looks:
            kept, output.roundtrip = self.nearest(images, conditioning, best_of)
            output.images = [images[i] for i in kept]
        return output if return_dict else output.to_tuple()
