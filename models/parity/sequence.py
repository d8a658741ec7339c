"""Sequence models: a bundle's temporal module, and MambaModel / MambaForCausalLM."""

from __future__ import annotations

import torch
from transformers import MambaConfig, MambaForCausalLM, MambaModel

from .sink import Sink
from .tiny import DV, D, temporal_config
from .weights import generator, published, random_module


@torch.no_grad()
def write(sink: Sink) -> None:
    kinds = {
        "mamba": ("mamba", "rank", True),
        "mamba-forward": ("mamba", "rank", False),
        "mamba-days": ("mamba", "days", True),
        "transformer": ("transformer", "rank", False),
        "transformer-slice": ("transformer", "slice", False),
        "temporal-none": ("none", "rank", False),
    }
    for short, (kind, position, both) in kinds.items():
        name = f"modules/{short}"
        if not sink.wants(name):
            continue
        folder, g = sink.fresh(name), generator(name)
        model = random_module("temporal", temporal_config(kind, position, both), folder, name)
        for frames in (1, 2, 3, 31, 32) if short in ("mamba", "transformer") else (1, 3):
            tokens = torch.randn((frames, 17, DV), generator=g)
            inputs, where = {"region_tokens": tokens}, None
            if position != "rank":
                where = torch.sort(
                    torch.rand(frames, generator=g), descending=position == "days"
                ).values
                where = where * 900 if position == "days" else where
                where[-1] = 0 if position == "days" else where[-1]
                if frames > 2:
                    where[1] = float("nan")
                inputs["position"] = where
            sink.case(
                folder,
                f"frames-{frames}",
                inputs,
                {"last_hidden_state": model(tokens[None], where)},
            )
        if kind != "none":
            for length in (1, 5, 51):
                x = torch.randn((1, length, D), generator=g)
                sink.case(
                    folder,
                    f"embeds-{length}",
                    {"inputs_embeds": x},
                    {"last_hidden_state": model.mix(x)},
                )

        sink.done(folder)
    config = MambaConfig(
        hidden_size=40, num_hidden_layers=2, state_size=5, time_step_rank=3, vocab_size=11
    )
    write_mamba(sink, "modules/mamba-lm-bf16", config, torch.bfloat16, None, (1, 33), True)
    if not sink.golden:
        config = MambaConfig(
            hidden_size=56, num_hidden_layers=3, conv_kernel=3, expand=3, use_bias=True,
            use_conv_bias=False, vocab_size=7,
        )  # fmt: skip
        write_mamba(sink, "modules/mamba-odd", config, torch.float32, "30KB", (1, 2, 3, 51, 544))


def write_mamba(
    sink: Sink,
    name: str,
    config: MambaConfig,
    dtype: torch.dtype,
    shard: str | None,
    lengths: tuple[int, ...],
    language_model: bool = False,
) -> None:
    """Hugging Face's own classes: inputs_embeds and input_ids, several sequences at once."""
    if not sink.wants(name):
        return
    folder, g = sink.fresh(name), generator(name)
    model = published(
        MambaForCausalLM if language_model else MambaModel, config, folder, name, dtype, shard
    )
    model = model.backbone if language_model else model
    for length in lengths:
        embeds = torch.randn((1 + length % 2, length, config.hidden_size), generator=g)
        hidden = model(inputs_embeds=embeds).last_hidden_state
        sink.case(
            folder, f"embeds-{length}", {"inputs_embeds": embeds}, {"last_hidden_state": hidden}
        )
    ids = torch.randint(config.vocab_size, (3, lengths[-1]), generator=g)
    sink.case(
        folder, "ids", {"input_ids": ids}, {"last_hidden_state": model(ids).last_hidden_state}
    )
    sink.done(folder)


@torch.no_grad()
def write_big(sink: Sink) -> None:
    sizes = {"130m": (768, 24), "370m": (1024, 48)}
    for size, (d, layers) in sizes.items():
        config = MambaConfig(hidden_size=d, num_hidden_layers=layers, vocab_size=50280)
        dtype = torch.float32 if size == "130m" else torch.bfloat16
        lengths = (1, 32, 544) if size == "130m" else (17,)
        write_mamba(sink, f"mamba-{size}", config, dtype, "500MB", lengths, size == "130m")
    name = "temporal-mamba-768-both-ways"
    if not sink.wants(name):
        return
    folder, g = sink.fresh(name), generator(name)
    config = temporal_config("mamba") | {
        "hidden_size": 768, "vision_hidden_size": 768, "state_size": 16, "time_step_rank": 48,
        "num_hidden_layers": 4,
    }  # fmt: skip
    model = random_module("temporal", config, folder, name)
    for frames in (1, 5, 32):
        tokens = torch.randn((frames, 17, 768), generator=g)
        expected = {"last_hidden_state": model(tokens[None], None)}
        sink.case(folder, f"frames-{frames}", {"region_tokens": tokens}, expected)
    sink.done(folder)
