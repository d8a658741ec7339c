"""SAM 2's image path: Sam2Model with every kind of prompt, and the box head of a bundle."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)

from .sink import Sink
from .tiny import SEGMENTER_SIZE, segmenter_config
from .weights import generator, published, random_module

# blocks per stage, width of the first stage, heads per stage, background, global blocks
SIZES = {
    "tiny": ([1, 2, 7, 2], 96, [1, 2, 4, 8], [7, 7], [5, 7, 9]),
    "small": ([1, 2, 11, 2], 96, [1, 2, 4, 8], [7, 7], [7, 10, 13]),
    "base-plus": ([2, 3, 16, 3], 112, [2, 4, 8, 16], [14, 14], [12, 16, 20]),
}


def vision_config_of(size: str, image: int) -> Sam2VisionConfig:
    blocks, width, heads, background, global_blocks = SIZES[size]
    widths = [width, 2 * width, 4 * width, 8 * width]
    backbone = Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=heads[0],
        image_size=[image, image],
        blocks_per_stage=blocks,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=heads,
        window_size_per_stage=[8, 4, 14, 7],
        window_positional_embedding_background_size=background,
        global_attention_blocks=global_blocks,
    )
    return Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[image // 4] * 2, [image // 8] * 2, [image // 16] * 2],
    )


def image_config(size: str, image: int) -> Sam2Config:
    return Sam2Config(
        vision_config=vision_config_of(size, image).to_dict(),
        prompt_encoder_config=Sam2PromptEncoderConfig(image_size=image).to_dict(),
        mask_decoder_config=Sam2MaskDecoderConfig().to_dict(),
    )


@torch.no_grad()
def write(sink: Sink) -> None:
    for name, size in (("modules/sam2", SEGMENTER_SIZE), ("modules/sam2-128", 128)):
        if not sink.wants(name) or (sink.golden and size != SEGMENTER_SIZE):
            continue
        folder, g = sink.fresh(name), generator(name)
        model = random_module("segmenter", segmenter_config(size), folder, name)
        sam2 = model.sam2
        pixels = torch.randn((2, 3, size, size), generator=g)
        boxes = torch.tensor([[[8.0, 15, 40.5, 80]], [[50.25, 12, 90, 70]]])
        points = torch.rand((2, 1, 3, 2), generator=g) * size
        labels = torch.tensor([[[1, 0, -1]], [[1, 1, -10]]])
        low = torch.randn((2, 1, size // 4, size // 4), generator=g) * 4

        own = {"boxes": model.boxes(model.embed(pixels))}
        run(sink, folder, "box", sam2, pixels, False, own, input_boxes=boxes)
        run(sink, folder, "box-multimask", sam2, pixels[:1], True, input_boxes=boxes[:1])
        if size == SEGMENTER_SIZE:
            both = torch.cat([boxes[:1], boxes[1:]], 1)
            dots = dict(input_points=points, input_labels=labels)
            run(sink, folder, "two-boxes", sam2, pixels[:1], True, input_boxes=both)
            run(
                sink,
                folder,
                "box-and-mask",
                sam2,
                pixels,
                False,
                input_boxes=boxes,
                input_masks=low,
            )
            run(sink, folder, "points", sam2, pixels, True, **dots)
            run(sink, folder, "points-and-box", sam2, pixels, False, input_boxes=boxes, **dots)
            run(sink, folder, "no-prompt", sam2, pixels[:1], True)
        sink.done(folder)
    if not sink.golden:
        write_sizes(sink)


def write_sizes(sink: Sink) -> None:
    """save_pretrained directories at other image sizes, many prompts of one image, single masks."""
    for side in (32, 64, 160, 224):
        name = f"sam2-{side}-bf16"
        if not sink.wants(name):
            continue
        folder, g = sink.fresh(name), generator(name)
        config = segmenter_config(side)
        del config["box_head_hidden_size"]
        config = Sam2Config.from_dict(config)
        model = published(Sam2Model, config, folder, name, torch.bfloat16, "100KB")
        pixels = torch.randn((3, 3, side, side), generator=g)
        every_prompt(sink, folder, model, pixels, g, 5)
        sink.done(folder)


def every_prompt(
    sink: Sink, folder: Path, model: Sam2Model, pixels: torch.Tensor, g: torch.Generator, n: int
) -> None:
    """n prompts an image of each kind, both answers; a mask prompt goes with one box."""
    batch, side = len(pixels), pixels.shape[-1]
    corners = torch.rand((batch, n, 2, 2), generator=g).sort(2).values * side
    boxes, points = corners.flatten(2), torch.rand((batch, n, 3, 2), generator=g) * side
    labels = torch.randint(0, 2, (batch, n, 3), generator=g)
    low = torch.randn((batch, 1, side // 4, side // 4), generator=g) * 5
    for multimask in (False, True):
        short = "multi" if multimask else "single"
        run(sink, folder, f"boxes-{short}", model, pixels, multimask, input_boxes=boxes)
        dots = dict(input_points=points, input_labels=labels)
        run(sink, folder, f"points-{short}", model, pixels, multimask, **dots)
        one = dict(input_boxes=boxes[:, :1], input_masks=low)
        run(sink, folder, f"mask-{short}", model, pixels, multimask, **one)


def run(
    sink: Sink,
    folder: Path,
    case: str,
    sam2: Sam2Model,
    pixels: torch.Tensor,
    multimask: bool,
    own: dict | None = None,
    **prompts: torch.Tensor,
) -> None:
    """One call of Sam2Model; with `own` (more expected tensors) the image embeddings count too."""
    out = sam2(pixel_values=pixels, multimask_output=multimask, **prompts)
    expected = {
        "pred_masks": out.pred_masks,
        "iou_scores": out.iou_scores,
        "object_score_logits": out.object_score_logits,
    }
    if own is not None:
        expected |= own
    if own is not None or not sink.golden:
        expected |= {f"image_embeddings.{i}": e for i, e in enumerate(out.image_embeddings)}
    inputs = {"pixel_values": pixels, "multimask_output": torch.tensor([int(multimask)]), **prompts}
    sink.case(folder, case, inputs, expected)


@torch.no_grad()
def write_big(sink: Sink) -> None:
    """The published sizes at 1024, and MedSAM2's: tiny at 512."""
    for size, side in (("tiny", 512), ("tiny", 1024), ("small", 1024), ("base-plus", 1024)):
        name = f"sam2-{size}-{side}"
        if not sink.wants(name):
            continue
        folder, g = sink.fresh(name), generator(name)
        model = published(Sam2Model, image_config(size, side), folder, name)
        every_prompt(sink, folder, model, torch.randn((1, 3, side, side), generator=g), g, 3)
        sink.done(folder)
