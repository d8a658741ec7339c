"""The tiny configurations of tests/golden: every part of a module, few numbers."""

from __future__ import annotations

from transformers import (
    Dinov2Config,
    Dinov2WithRegistersConfig,
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    ViTConfig,
)

D, DV, DE = 48, 64, 32
SEGMENTER_SIZE = 96


def vision_config(kind: str) -> dict:
    size = dict(
        hidden_size=DV, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    if kind == "vit":
        return ViTConfig(
            intermediate_size=2 * DV, hidden_act="gelu", qkv_bias=True, **size
        ).to_dict()
    if kind == "dinov2_with_registers":
        return Dinov2WithRegistersConfig(num_register_tokens=4, mlp_ratio=2, **size).to_dict()
    return Dinov2Config(mlp_ratio=2, use_swiglu_ffn=kind == "dinov2-swiglu", **size).to_dict()


def segmenter_config(size: int = SEGMENTER_SIZE) -> dict:
    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        image_size=[size, size],
        blocks_per_stage=[1, 2, 3, 1],
        embed_dim_per_stage=[16, 32, 48, 64],
        num_attention_heads_per_stage=[1, 2, 3, 4],
        window_size_per_stage=[8, 4, 6, 4],
        window_positional_embedding_background_size=[7, 7],
        global_attention_blocks=[4],
        mlp_ratio=2.0,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 48, 32, 16],
        fpn_hidden_size=32,
        backbone_feature_sizes=[[size // 4] * 2, [size // 8] * 2, [size // 16] * 2],
    )
    prompt = Sam2PromptEncoderConfig(hidden_size=32, image_size=size, patch_size=16)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=32, mlp_dim=48, num_attention_heads=2, iou_head_hidden_dim=24
    )
    config = Sam2Config(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompt.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )
    return {**config.to_dict(), "box_head_hidden_size": 12}


def temporal_config(kind: str, position: str = "rank", bidirectional: bool = True) -> dict:
    common = {
        "model_type": kind,
        "hidden_size": D,
        "vision_hidden_size": DV,
        "max_frames": 32,
        "tokens_per_frame": 17,
        "position": position,
        "bidirectional": bidirectional and kind == "mamba",
    }
    if kind == "mamba":
        common |= {
            "state_size": 8,
            "conv_kernel": 4,
            "expand": 2,
            "time_step_rank": 3,
            "num_hidden_layers": 2,
            "layer_norm_epsilon": 1e-5,
            "use_bias": False,
            "use_conv_bias": True,
        }
    if kind == "transformer":
        common |= {
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 80,
            "layer_norm_eps": 1e-5,
        }
    return common


def ehr_config(tokens: str = "all") -> dict:
    return {
        "model_type": "ft_transformer",
        "d_token": DE,
        "n_blocks": 2,
        "attention_n_heads": 4,
        "ffn_d_hidden": 40,
        "n_cont": 3,
        "cat_cardinalities": [2, 5],
        "output_tokens": tokens,
    }


def fusion_config(ehr: bool = True) -> dict:
    return {
        "model_type": "fusion",
        "hidden_size": D,
        "num_layers": 2 if ehr else 0,
        "num_attention_heads": 4,
        "intermediate_size": 72,
        "layer_norm_eps": 1e-5,
        "ehr_hidden_size": DE if ehr else None,
        "head_hidden_size": 40,
        "num_labels": 5,
        "batch_norm_eps": 1e-5,
    }
