"""The whole study in the peers: frames and EHR in, logits out, as models/medfusion has it; what takes the time (SAM 2's encoder and decoder, the ViT, Mamba)
is handed to the runtime, frame by frame, as one would who deploys it.
"""

import types

import networks
import numpy as np
import runtimes
import torch
import torch._inductor.config
from medfusion.bundle import load_bundle
from medfusion.network import Ehr
from medfusion.segmenter import Decoded

SIZE = 1024


def frame():
    """The synthetic frame of `medfusion bench`, in [0, 1]."""
    v, u = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE, (np.arange(SIZE) + 0.5) / SIZE, indexing="ij")
    lungs = np.minimum(np.hypot((u - 0.3) / 0.15, (v - 0.5) / 0.3), np.hypot((u - 0.7) / 0.15, (v - 0.5) / 0.3))
    grey = np.where(lungs < 1, 0.0, 0.9) + np.random.default_rng(1).random((SIZE, SIZE)) * 0.1
    return torch.from_numpy(grey.astype(np.float32))


class Embed(torch.nn.Module):
    """Segmenter.embed."""

    def __init__(self, segmenter):
        super().__init__()
        self.segmenter = segmenter

    def forward(self, x):
        return tuple(type(self.segmenter).embed(self.segmenter, x))


class Decode(torch.nn.Module):
    """The mask decoder on both boxes of one image."""

    def __init__(self, sam2):
        super().__init__()
        self.sam2 = sam2

    def forward(self, fine, middle, coarse, sparse, dense):
        position = self.sam2.get_image_wide_positional_embeddings().repeat(2, 1, 1, 1)
        logits, iou, _, score = self.sam2.mask_decoder(
            image_embeddings=coarse, image_positional_embeddings=position, sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense,
            multimask_output=False, high_resolution_features=[fine, middle])
        return logits[:, 0, 0], iou[:, 0, 0], score[:, 0, 0]


class Mix(torch.nn.Module):
    """Temporal.mix."""

    def __init__(self, temporal):
        super().__init__()
        self.temporal = temporal

    def forward(self, x):
        return type(self.temporal).mix(self.temporal, x)


def tensors(arrays):
    return [torch.from_numpy(np.asarray(a)) for a in arrays]


def use_sessions(model, name, size, make):
    """Hands networks to a runtime; make(key, module, inputs) gives a function of tensors."""
    segmenter, vision, temporal = model.segmenter, model.vision, model.temporal
    side = model.bundle["preprocessing"]["segmenter"]["size"][0]
    sample = torch.randn(1, 3, side, side)
    embed = make(f"{name}-embed", Embed(segmenter), (sample,))

    def embed_all(pixels):
        each = [tensors(embed(p[None].contiguous())) for p in pixels]
        return [torch.cat(level) for level in zip(*each)]

    maps = [m.repeat_interleave(2, 0) for m in Embed(segmenter)(sample)]
    sparse, dense = segmenter.sam2.prompt_encoder(None, None, torch.rand(2, 1, 4) * side, None)
    decode = make(f"{name}-decode", Decode(segmenter.sam2), (*maps, sparse, dense.contiguous()))

    def decode_all(maps, boxes, masks=None):
        parts = []
        for i in range(boxes.shape[0]):
            both = [m[i : i + 1].repeat_interleave(2, 0) for m in maps]
            fed = None if masks is None else masks[2 * i : 2 * i + 2]
            sparse, dense = segmenter.sam2.prompt_encoder(None, None, boxes[i].reshape(2, 1, 4), fed)
            parts.append(tensors(decode(*both, sparse, dense.contiguous())))
        return Decoded(*(torch.cat(part) for part in zip(*parts)))

    segmenter.embed, segmenter.decode = embed_all, decode_all
    pixels = torch.randn(1, 3, *model.bundle["preprocessing"]["vision"]["size"])
    see = make(f"{name}-vision", networks.Image(vision), (pixels,))

    class Vision:
        config = vision.config

        def __call__(self, pixel_values, **_):
            hidden = torch.cat([tensors(see(p[None].contiguous()))[0] for p in pixel_values])
            return types.SimpleNamespace(last_hidden_state=hidden)

    del model.vision
    model.vision = Vision()
    tokens = torch.randn(1, size * (model.bundle["regions"] ** 2 + 1), temporal.config["hidden_size"])
    mix = make(f"{name}-mix-{tokens.shape[1]}", Mix(temporal), (tokens,))
    temporal.mix = lambda x: tensors(mix(x))[0]


def load(side, name, size, dtype, threads):
    """The study of `size` frames as a function of no arguments."""
    folder = networks.make(name) if name == "foundation" else networks.ROOT / "models" / name
    model = load_bundle(folder)
    config = model.ehr.config
    numbers, choices = config["n_cont"], len(config["cat_cardinalities"])
    ehr = Ehr(torch.zeros(numbers), torch.zeros(choices, dtype=torch.long), torch.zeros(numbers + choices, dtype=torch.bool))
    frames = [frame()] * size
    if side in runtimes.SESSIONS:
        use_sessions(model, name, size, lambda key, module, x: runtimes.SESSIONS[side](key, module, x, dtype, threads))
        dtype = "f32"  # of what PyTorch still does
    if side == "compile":
        if dtype == "int8":
            raise runtimes.Unavailable("dynamically quantised modules do not compile")
        torch._inductor.config.freezing = True
        model.vision = torch.compile(model.vision)
        model.segmenter.sam2.vision_encoder = torch.compile(model.segmenter.sam2.vision_encoder)
        model.segmenter.sam2.mask_decoder = torch.compile(model.segmenter.sam2.mask_decoder)
        model.fusion = torch.compile(model.fusion)
    if dtype == "int8":
        model = runtimes.quantised(model)

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            return model(frames, ehr).logits

    return run
