"""The page: demos as tabs, or one alone; and how it is served."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

import gradio as gr
from starlette.middleware import Middleware

from bind2gen.studio import DetectionStudio, Studio
from bind2gen.studio.limits import MEGABYTE

from . import arithmetic, detect, parts, sound2image
from .guard import Guard

DEMOS: dict[str, ModuleType] = {"sound2image": sound2image, "detect": detect, "arithmetic": arithmetic}
HEADING = "# bind2gen\nGive it a sound, and see what it looks like, or where it is."
CACHE_CHECK, CACHE_AGE = 600, 3600  # s: how often, and from what age on, uploads and pictures are deleted
WAITING = 24  # visitors in the queue; more are told that it is full
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
SYSTEM_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")


def build(studios: Mapping[str, Studio | DetectionStudio]) -> gr.Blocks:
    """The page with these demos; several are tabs.

    Args:
        studios: name of a demo -> what it works with; ``detect`` needs a :class:`DetectionStudio`.
    """
    with gr.Blocks(title="bind2gen", analytics_enabled=False, delete_cache=(CACHE_CHECK, CACHE_AGE)) as blocks:
        gr.Markdown(HEADING, elem_classes="b2g-heading")
        if len(studios) == 1:
            for name, studio in studios.items():
                DEMOS[name].add(studio)
        else:
            with gr.Tabs():
                for name, studio in studios.items():
                    with gr.Tab(DEMOS[name].TITLE, id=name):
                        DEMOS[name].add(studio)
    return blocks.queue(max_size=WAITING, default_concurrency_limit=1)


def theme() -> gr.themes.Base:
    """Calm, with fonts of the system; colours with the contrast of 4.5 to 1 that WCAG asks of text."""
    look = gr.themes.Soft(
        primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=SYSTEM_FONTS, font_mono=SYSTEM_MONO
    )
    plain = {
        "block_label_background_fill": "*block_background_fill", "block_label_text_color": "*neutral_600",
        "block_title_background_fill": "transparent", "block_title_text_color": "*neutral_600",
        "button_primary_background_fill": "*primary_700", "button_primary_background_fill_hover": "*primary_800",
        "color_accent": "*primary_700", "link_text_color": "*primary_700",
    }  # fmt: skip
    dark = {
        "block_label_background_fill_dark": "*block_background_fill", "block_label_text_color_dark": "*neutral_300",
        "block_title_background_fill_dark": "transparent", "block_title_text_color_dark": "*neutral_300",
        "button_primary_background_fill_dark": "*primary_700",
        "button_primary_background_fill_hover_dark": "*primary_800",
        "link_text_color_dark": "*primary_300",
    }  # fmt: skip
    return look.set(
        **plain, **dark, block_title_padding="0", block_label_padding="*spacing_sm *spacing_md",
        block_border_width="1px", block_label_border_width="0px", block_label_shadow="none", block_shadow="none",
    )  # fmt: skip


def launch(blocks: gr.Blocks, *, megabytes: float, host: str, port: int | None, share: bool = False) -> str:
    """Serve the page in a thread and return its address.

    Args:
        megabytes: of one upload at most.

    Raises:
        OSError: the port is taken.
    """
    _, url, shared = blocks.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        inbrowser=False,
        max_file_size=int(megabytes * MEGABYTE),
        app_kwargs={"middleware": [Middleware(Guard)]},
        footer_links=["api"],
        run_history=False,  # it would offer to store what visitors do
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css_paths=parts.STYLE,
        _frontend=False,  # do not ask for the page now: on a busy machine Gradio gives up after 3 s
    )
    return shared or url
