"""SAM 2 over a stack of slices (Sam2VideoModel): prompts on one slice, memory to both ends."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    Sam2HieraDetConfig,
    Sam2VideoConfig,
    Sam2VideoInferenceSession,
    Sam2VideoMaskDecoderConfig,
    Sam2VideoModel,
    Sam2VideoPromptEncoderConfig,
    Sam2VisionConfig,
)

from .sam2 import vision_config_of
from .sink import Sink
from .weights import generator, published

TINY = 64  # image size of the tiny model


def tiny_config(small: bool, **changes: object) -> Sam2VideoConfig:
    widths, d = (
        [8, 16, 24, 32],
        128,
    )  # memories are 64 wide whatever the model: d / 64 pointer tokens
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[TINY, TINY],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[1, 2, 3, 4],
        window_size_per_stage=[8, 4, 14, 7],
        window_positional_embedding_background_size=[7, 7],
        global_attention_blocks=[3],
        mlp_ratio=2.0,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        fpn_hidden_size=d,
        backbone_feature_sizes=[[TINY // 4] * 2, [TINY // 8] * 2, [TINY // 16] * 2],
    )
    return Sam2VideoConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(
            hidden_size=d, image_size=TINY
        ).to_dict(),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=d,
            mlp_dim=64,
            num_attention_heads=2,
            iou_head_hidden_dim=32,
            attention_downsample_rate=8,
        ).to_dict(),
        image_size=TINY,
        memory_attention_hidden_size=d,
        memory_attention_num_layers=1 if small else 2,
        memory_attention_feed_forward_hidden_size=96,
        memory_attention_rope_feat_sizes=[TINY // 16] * 2,
        memory_encoder_hidden_size=d,
        mask_downsampler_embed_dim=d,
        memory_fuser_embed_dim=d,
        memory_fuser_intermediate_dim=96,
        **changes,
    )


def big_config(size: str, side: int) -> Sam2VideoConfig:
    return Sam2VideoConfig(
        vision_config=vision_config_of(size, side).to_dict(),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=side).to_dict(),
        mask_decoder_config=Sam2VideoMaskDecoderConfig().to_dict(),
        image_size=side,
        memory_attention_rope_feat_sizes=[side // 16] * 2,
    )


def settle(model: Sam2VideoModel) -> None:
    """Most objects are there on most slices: one that is not has a constant mask."""
    model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(1.0)


def track(
    model: Sam2VideoModel,
    pixels: torch.Tensor,
    key: int,
    points: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    boxes: torch.Tensor | None = None,
    masks: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """What the session says of every frame: prompts on frame `key`, forwards, then backwards."""
    side = pixels.shape[-1]
    session = Sam2VideoInferenceSession(
        video=pixels, video_height=side, video_width=side, dtype=torch.float32
    )
    count = next(len(p) for p in (boxes, points, masks) if p is not None)
    for i in range(count):
        index = session.obj_id_to_idx(i + 1)
        if masks is not None:
            session.add_mask_inputs(index, key, masks[i][None, None])
        else:  # a box is two points with labels 2 and 3, as the processor makes it
            xy = [boxes[i].reshape(2, 2)] if boxes is not None else []
            kinds = [torch.tensor([2, 3])] if boxes is not None else []
            if points is not None:
                xy, kinds = [*xy, points[i]], [*kinds, labels[i]]
            coordinates, kinds = torch.cat(xy)[None, None], torch.cat(kinds)[None, None]
            session.add_point_inputs(
                index, key, {"point_coords": coordinates, "point_labels": kinds.int()}
            )
    session.obj_with_new_inputs = list(session.obj_ids)
    outputs = {key: model(session, frame_idx=key)}
    for reverse in (False, True):
        for out in model.propagate_in_video_iterator(session, key, reverse=reverse):
            outputs.setdefault(out.frame_idx, out)
    frames = [outputs[i] for i in range(len(pixels))]
    return {
        "pred_masks": torch.stack([f.pred_masks for f in frames]),
        "object_score_logits": torch.stack([f.object_score_logits for f in frames]).reshape(
            len(frames), count, 1
        ),
    }


def run(
    sink: Sink,
    folder: Path,
    case: str,
    model: Sam2VideoModel,
    pixels: torch.Tensor,
    key: int | None,
    **prompts: torch.Tensor,
) -> None:
    named = {"points": "input_points", "labels": "input_labels", "boxes": "input_boxes"}
    inputs = {"pixel_values_videos": pixels[None].half()}
    if key is not None:
        inputs["frame_idx"] = torch.tensor([key])
    inputs |= {named.get(k, "input_masks"): v[None] for k, v in prompts.items()}
    expected = track(model, pixels, len(pixels) // 2 if key is None else key, **prompts)
    sink.case(folder, case, inputs, expected)


def cases(
    sink: Sink, folder: Path, model: Sam2VideoModel, g: torch.Generator, side: int, frames: int
) -> None:
    pixels = torch.randn((frames, 3, side, side), generator=g).half().float()
    corners = torch.rand((2, 2, 2), generator=g).sort(1).values * side
    run(sink, folder, "two-boxes", model, pixels, None, boxes=corners.flatten(1))
    points = torch.rand((1, 2, 2), generator=g) * side
    labels = torch.tensor([[1, 0]])
    run(sink, folder, "points-first", model, pixels[:3], 0, points=points, labels=labels)
    one = dict(points=points[:, :1], labels=labels[:, :1])
    run(sink, folder, "point-last", model, pixels[:3], 2, **one)
    mask = (torch.rand((1, side, side), generator=g) > 0.7).float()
    run(sink, folder, "mask", model, pixels[:3], 1, masks=mask)


@torch.no_grad()
def write(sink: Sink) -> None:
    # Memories are kept in bf16: where float32 sums differ in the last bit, one of them may be
    # rounded the other way, and with few memories to read that shows after many slices.
    few = {
        "num_maskmem": 3,
        "max_object_pointers_in_encoder": 4,
        "enable_occlusion_spatial_embedding": False,
        "enable_temporal_pos_encoding_for_object_pointers": False,
        "multimask_output_for_tracking": False,
    }
    variants = {"sam2-video": ({}, settle, 5 if sink.golden else 21)}
    if not sink.golden:
        variants |= {"sam2-video-few": (few, settle, 9), "sam2-video-absent": ({}, None, 9)}
    for short, (changes, adjust, slices) in variants.items():
        name = f"modules/{short}"
        if not sink.wants(name):
            continue
        folder, g = sink.fresh(name), generator(name)
        config = tiny_config(sink.golden, **changes)
        model = published(Sam2VideoModel, config, folder, name, torch.float16, settle=adjust)
        cases(sink, folder, model, g, TINY, slices)
        sink.done(folder)


@torch.no_grad()
def write_big(sink: Sink) -> None:
    """MedSAM2's layout (tiny at 512), and tiny at 1024."""
    for side, frames in ((512, 4), (1024, 3)):
        name = f"sam2-video-tiny-{side}"
        if not sink.wants(name):
            continue
        folder, g = sink.fresh(name), generator(name)
        model = published(Sam2VideoModel, big_config("tiny", side), folder, name, settle=settle)
        pixels = torch.randn((frames, 3, side, side), generator=g).half().float()
        corners = torch.rand((2, 2, 2), generator=g).sort(1).values * side
        run(sink, folder, "two-boxes", model, pixels, None, boxes=corners.flatten(1))
        sink.done(folder)
