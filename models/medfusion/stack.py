"""Stacks of slices (engine/segment.c): the lungs are prompted on the middle slice and followed to
both ends with Hugging Face's Sam2VideoModel. What it remembers belongs to one study.
"""

from __future__ import annotations

import torch
from transformers import Sam2VideoInferenceSession, Sam2VideoModel

STRUCTURES = 2


def prompt(
    model: Sam2VideoModel,
    session: Sam2VideoInferenceSession,
    key: int,
    index: int,
    box: torch.Tensor,
    refine: bool,
) -> dict:
    """One structure on the prompted slice; with `refine` its logits are fed back once."""
    points = {
        "point_coords": box.reshape(1, 1, 2, 2),
        "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32),
    }
    given = dict(
        inference_session=session, frame_idx=key, obj_idx=index, batch_size=1,
        is_init_cond_frame=True, point_inputs=points, mask_inputs=None, reverse=False,
    )  # fmt: skip
    out = model._run_single_frame_inference(**given)
    if refine:
        out = model._run_single_frame_inference(**given, prev_sam_mask_logits=out["pred_masks"])
    session.store_output(index, key, output_value=out, is_conditioning_frame=True)
    return out


def watch_iou(model: Sam2VideoModel) -> list[torch.Tensor]:
    """A list that grows by the predicted IoU of the mask that each decoder call is worth."""
    seen: list[torch.Tensor] = []
    run = type(model)._single_frame_forward

    def watched(*args: object, **options: object) -> object:
        out = run(model, *args, **options)
        seen.append(out.iou_scores.max())
        return out

    model._single_frame_forward = watched
    return seen


def follow(
    model: Sam2VideoModel, pixels: torch.Tensor, key: int, boxes: torch.Tensor, refine: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """pixels (n, 3, s, s), boxes (2, 4) in pixels on slice `key` → mask logits (n, 2, h, w),
    predicted IoU (n, 2), object scores (n, 2).
    """
    side, count = pixels.shape[-1], len(pixels)
    session = Sam2VideoInferenceSession(
        video=pixels, video_height=side, video_width=side, dtype=torch.float32
    )
    seen = watch_iou(model)
    iou = torch.zeros(count, STRUCTURES)
    first = []
    for k in range(STRUCTURES):
        session.obj_id_to_idx(k + 1)
        first.append(prompt(model, session, key, k, boxes[k], refine))
        iou[key, k] = seen[-1]
    model._batch_encode_memories(
        session, key, [0, 1], [out["high_res_masks"] for out in first],
        [out["object_score_logits"] for out in first], [True, True],
    )  # fmt: skip
    masks, scores = [None] * count, torch.zeros(count, STRUCTURES)
    for reverse in (False, True):
        for out in model.propagate_in_video_iterator(session, key, reverse=reverse):
            masks[out.frame_idx] = out.pred_masks[:, 0]
            scores[out.frame_idx] = out.object_score_logits.flatten()
            if out.frame_idx != key:
                iou[out.frame_idx] = torch.stack(seen[-STRUCTURES:])
    if count == 1 or masks[key] is None:
        masks[key] = torch.cat([out["pred_masks"][:, 0] for out in first])
        scores[key] = torch.cat([out["object_score_logits"].flatten() for out in first])
    del model._single_frame_forward
    return torch.stack(masks), iou, scores
