"""FT-Transformer: a bundle's (learned tokens for what is missing) and rtdl_revisiting_models'."""

from __future__ import annotations

import zlib

import torch
from rtdl_revisiting_models import FTTransformer

from .sink import Sink
from .tiny import ehr_config
from .weights import generator, random_module, randomise, save_state


@torch.no_grad()
def write(sink: Sink) -> None:
    for short, tokens in (("ft_transformer", "all"), ("ft_transformer-cls", "cls")):
        name = f"modules/{short}"
        if not sink.wants(name):
            continue
        folder, g = sink.fresh(name), generator(name)
        model = random_module("ehr", ehr_config(tokens), folder, name)
        for case, missing in {
            "complete": [0, 0, 0, 0, 0],
            "some-missing": [0, 1, 0, 1, 0],
            "all-missing": [1] * 5,
        }.items():
            batch = 1 if case == "all-missing" else 2
            inputs = {
                "x_cont": torch.randn((batch, 3), generator=g),
                "x_cat": torch.tensor([[1, 4], [0, 2]])[:batch],
                "missing": torch.tensor([missing] * batch).bool(),
            }
            sink.case(folder, case, inputs, {"last_hidden_state": model(**inputs)})
        sink.done(folder)
    small = dict(n_blocks=2, d_block=32, attention_n_heads=4, ffn_d_hidden_multiplier=4 / 3)
    write_rtdl(sink, "modules/ft_transformer-rtdl", 3, [2, 5], 4, small, (1, 33))
    write_rtdl(
        sink, "modules/ft_transformer-rtdl-cont", 4, [], 2, small, () if sink.golden else (5,)
    )


@torch.no_grad()
def write_big(sink: Sink) -> None:
    for blocks in range(1, 7):
        defaults = FTTransformer.get_default_kwargs(blocks)
        sizes = {
            key: defaults[key]
            for key in ("n_blocks", "d_block", "attention_n_heads", "ffn_d_hidden_multiplier")
        }
        write_rtdl(sink, f"ft-rtdl-{blocks}", 38, [2, 3, 5, 7, 11], 14, sizes, (1, 32, 256))


def write_rtdl(
    sink: Sink,
    name: str,
    n_cont: int,
    cardinalities: list[int],
    d_out: int,
    sizes: dict,
    batches: tuple[int, ...],
) -> None:
    """A state dict of rtdl's own class; config.json holds the arguments of its constructor."""
    if not sink.wants(name) or not batches:
        return
    folder, g = sink.fresh(name), generator(name)
    arguments = {
        "n_cont_features": n_cont,
        "cat_cardinalities": cardinalities,
        "d_out": d_out,
        **sizes,
        "attention_dropout": 0.2,
        "ffn_dropout": 0.1,
        "residual_dropout": 0.0,
    }
    torch.manual_seed(zlib.crc32(name.encode()))
    model = randomise(FTTransformer(**arguments), name)
    save_state(model, {"model_type": "ft_transformer", **arguments}, folder, torch.float16)
    for batch in batches:
        inputs = {"x_cont": torch.randn((batch, n_cont), generator=g)}
        if cardinalities:
            choices = [torch.randint(c, (batch,), generator=g) for c in cardinalities]
            inputs["x_cat"] = torch.stack(choices, 1)
        logits = model(inputs["x_cont"], inputs.get("x_cat"))
        sink.case(folder, f"batch-{batch}", inputs, {"logits": logits})
    sink.done(folder)
