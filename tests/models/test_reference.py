"""The reference network against independent implementations.

Needs models/requirements-train.txt; skipped without it.
"""

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2] / "models"))

from parity import tiny, weights  # noqa: E402
from medfusion import bundle as bundles  # noqa: E402
from medfusion import preprocess, segmenter  # noqa: E402
from medfusion.temporal import Temporal  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "golden"


def close(a: "torch.Tensor", b: "torch.Tensor", tolerance: float = 1e-5) -> bool:
    return bool((a - b).abs().max() <= tolerance * b.abs().max())


@torch.no_grad()
def test_mamba_equals_hugging_face():
    config = tiny.temporal_config("mamba", bidirectional=False)
    module = weights.randomise(Temporal(config), "test")
    names = (
        "hidden_size",
        "state_size",
        "conv_kernel",
        "expand",
        "time_step_rank",
        "num_hidden_layers",
        "layer_norm_epsilon",
        "use_bias",
        "use_conv_bias",
    )
    other = transformers.MambaModel(
        transformers.MambaConfig(vocab_size=1, **{n: config[n] for n in names})
    ).eval()
    other.load_state_dict(module.backbone.state_dict(), strict=False)
    x = torch.randn(2, 40, config["hidden_size"])
    assert close(module.mix(x), other(inputs_embeds=x).last_hidden_state)


@torch.no_grad()
def test_segmenter_equals_hugging_face():
    module = weights.randomise(bundles.make_module("segmenter", tiny.segmenter_config()), "test")
    pixels, boxes = (
        torch.randn(2, 3, 96, 96),
        torch.tensor([[[5.0, 9, 40, 80], [50, 12, 90, 70]]]).repeat(2, 1, 1),
    )
    found, first = module(pixels, False, boxes)
    assert torch.equal(found, boxes)
    for k in range(2):
        theirs = module.sam2(
            pixel_values=pixels, input_boxes=boxes[:, k : k + 1], multimask_output=False
        )
        assert close(first.logits.unflatten(0, (2, 2))[:, k], theirs.pred_masks[:, 0, 0])
        assert close(first.iou.view(2, 2)[:, k], theirs.iou_scores[:, 0, 0])
        assert close(first.object_score.view(2, 2)[:, k], theirs.object_score_logits[:, 0, 0])
        again = module.sam2(
            pixel_values=pixels,
            input_boxes=boxes[:, k : k + 1],
            multimask_output=False,
            input_masks=theirs.pred_masks[:, 0],
        )
        assert close(
            module(pixels, True, boxes)[1].logits.unflatten(0, (2, 2))[:, k],
            again.pred_masks[:, 0, 0],
        )


@pytest.mark.parametrize("heads", [1, 4])
@torch.no_grad()
def test_ft_transformer_equals_rtdl(heads):
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    config = tiny.ehr_config("cls") | {"attention_n_heads": heads}
    module = weights.randomise(bundles.make_module("ehr", config), "test")
    other = rtdl.FTTransformer(
        n_cont_features=config["n_cont"],
        cat_cardinalities=config["cat_cardinalities"],
        d_out=1,
        n_blocks=config["n_blocks"],
        d_block=config["d_token"],
        attention_n_heads=heads,
        attention_dropout=0.0,
        ffn_d_hidden=config["ffn_d_hidden"],
        ffn_d_hidden_multiplier=None,
        ffn_dropout=0.0,
        residual_dropout=0.0,
    ).eval()
    weights = module.state_dict()
    weights["cls_embedding.weight"] = weights["cls_embedding.weight"][
        0
    ]  # rtdl keeps it without the row axis
    missing, _ = other.load_state_dict(weights, strict=False)
    assert all(name.startswith("backbone.output.") for name in missing)
    other.backbone.output = torch.nn.Identity()
    x_cont, x_cat = torch.randn(3, 3), torch.tensor([[0, 4], [1, 2], [1, 0]])
    ours = module(x_cont, x_cat, torch.zeros(3, 5, dtype=torch.bool))
    assert close(ours[:, 0], other(x_cont, x_cat).reshape(3, -1))


@torch.no_grad()
def test_missing_feature_hides_its_value():
    module = weights.randomise(bundles.make_module("ehr", tiny.ehr_config()), "test")
    missing = torch.tensor([[False, True, False, False, True]])
    a = module(torch.tensor([[1.0, 2, 3]]), torch.tensor([[1, 4]]), missing)
    b = module(torch.tensor([[1.0, -9, 3]]), torch.tensor([[1, 0]]), missing)
    assert torch.equal(a, b)
    assert not torch.equal(
        a, module(torch.tensor([[1.0, 2, 3]]), torch.tensor([[1, 4]]), torch.zeros_like(missing))
    )


def test_choose_frames_keeps_ends_and_rounds():
    assert preprocess.choose_frames(3) == [0, 1, 2]
    chosen = preprocess.choose_frames(100)
    assert len(chosen) == 32 and chosen[0] == 0 and chosen[-1] == 99
    assert chosen == [int(k * 99 / 31 + 0.5) for k in range(32)]


def test_hull_of_single_pixel_and_diagonal():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2, 3] = True
    assert segmenter.fill_hull(mask).sum() == 1
    mask[5, 6] = True
    assert segmenter.fill_hull(mask).nonzero().tolist() == [[2, 3], [3, 4], [4, 5], [5, 6]]


@pytest.mark.parametrize("name", ["full", "no-ehr", "transformer", "vit-clahe"])
def test_golden_bundle_is_what_the_reference_says(name):
    from safetensors.torch import load_file
    from medfusion.network import Ehr

    folder = GOLDEN / "bundles" / name
    model = bundles.load_bundle(folder)
    case = folder / "cases" / "frames-3"
    inputs, expected = (
        load_file(case / "input.safetensors"),
        load_file(case / "expected.safetensors"),
    )
    ehr = (
        Ehr(inputs["x_cont"][0], inputs["x_cat"][0], inputs["missing"][0].bool())
        if "x_cont" in inputs
        else None
    )
    out = model([inputs[f"frame.{i}"] for i in range(3)], ehr, boxes=expected.get("boxes"))
    assert close(out.logits[None], expected["logits"], 1e-4)
