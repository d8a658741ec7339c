"""SAM 2's image encoder alone (Sam2VisionModel): non-square images, every window padding."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Sam2HieraDetConfig, Sam2VisionConfig, Sam2VisionModel

from .sam2 import vision_config_of
from .sink import Sink
from .weights import generator, published

# Sides in units of 32 pixels. Stage 3 then has 2·n rows in windows of 14 and stage 4 n rows in
# windows of 7, so 1 … 7 leave every possible padding in both; 8 and more have several windows.
FEW = ((1, 5), (7, 3), (8, 2))
MANY = ((1, 1), (2, 6), (3, 4), (4, 7), (5, 5), (6, 8), (9, 1), (10, 11), (14, 13), (12, 15))


def tiny_config() -> Sam2VisionConfig:
    """The real windows and pooling, few channels."""
    widths = [8, 16, 24, 32]
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        blocks_per_stage=[1, 2, 3, 2],
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[1, 2, 3, 4],
        window_size_per_stage=[8, 4, 14, 7],
        window_positional_embedding_background_size=[7, 7],
        global_attention_blocks=[4],
        mlp_ratio=2.0,
    )
    return Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=widths[::-1], fpn_hidden_size=16
    )


def run(sink: Sink, folder: Path, case: str, model: Sam2VisionModel, pixels: torch.Tensor) -> None:
    out = model(pixels.float())
    expected = {"last_hidden_state": out.last_hidden_state}
    for i, level in enumerate(out.fpn_hidden_states):
        if i == 2 or not sink.golden:
            expected[f"fpn_hidden_states.{i}"] = level
    sink.case(folder, case, {"pixel_values": pixels}, expected)


@torch.no_grad()
def write(sink: Sink) -> None:
    name = "modules/hiera-f16"
    if not sink.wants(name):
        return
    folder, g = sink.fresh(name), generator(name)
    model = published(Sam2VisionModel, tiny_config(), folder, name, torch.float16)
    for rows, cols in FEW if sink.golden else FEW + MANY:
        pixels = torch.randn((1, 3, 32 * rows, 32 * cols), generator=g)
        run(sink, folder, f"{32 * rows}x{32 * cols}", model, pixels.half())
    if not sink.golden:
        run(sink, folder, "batch-5", model, torch.randn((5, 3, 64, 96), generator=g))
    sink.done(folder)


@torch.no_grad()
def write_big(sink: Sink) -> None:
    name = "hiera-base-plus-non-square"
    if not sink.wants(name):
        return
    folder, g = sink.fresh(name), generator(name)
    model = published(Sam2VisionModel, vision_config_of("base-plus", 1024), folder, name)
    run(sink, folder, "672x1056", model, torch.randn((1, 3, 672, 1056), generator=g))
    sink.done(folder)
