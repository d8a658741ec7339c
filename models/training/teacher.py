"""Step `teacher`: a ResNet-18 on whole frames of training patients, whose soft answers the ViT
later learns.

It is a training aid and does not ship. Whole frames with random crops, so that it also answers on
any region of interest that the student is shown.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision

from . import data

SIZE = 192
MEAN, STD = 0.5, 0.25


class Teacher(torch.nn.Module):
    """ResNet-18 with one input channel; answers 14 findings and 3 auxiliary targets, and its last
    feature map.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = torchvision.models.resnet18(num_classes=len(data.LABELS) + 3)
        self.net.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.dropout = torch.nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (b, 1, s, s) in [0, 1] → logits (b, 17), features (b, 512, s/32, s/32)."""
        n = self.net
        x = ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        x = n.maxpool(n.relu(n.bn1(n.conv1(x))))
        x = n.layer4(n.layer3(n.layer2(n.layer1(x))))
        return n.fc(self.dropout(x.mean((2, 3)))).float(), x.float()


@torch.no_grad()
def predict(model: Teacher, frames: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Logits averaged over three scales of the given view and its mirror image."""
    model.eval()
    plain = data.Augmentation(scale=(1, 1), aspect=0, rotation=0, shift=0, flip=0)
    out = []
    for i in range(0, len(frames), 64):
        views = 0
        for scale, flip in ((1.0, 0), (1.0, 1), (0.85, 0), (0.85, 1)):
            plain.scale, plain.flip = (scale, scale), flip
            grid = plain.grid(boxes[i : i + 64], SIZE, torch.Generator().manual_seed(0))
            x = F.grid_sample(
                frames[i : i + 64].float() / 255, grid, padding_mode="border", align_corners=False
            )
            with torch.autocast("cpu", torch.bfloat16):
                views = views + model(x)[0]
        out.append(views / 4)
    return torch.cat(out)


def train(
    table,
    frames: np.ndarray,
    out: Path,
    seed: int,
    epochs: int,
    parts: tuple[str, ...],
    threads: int = 1,
) -> None:
    """Trains one teacher on `parts` and writes its averaged weights to `out` (resumes from
    `out`.part).
    """
    log = logging.getLogger("teacher")
    if out.exists():
        return
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    use = np.flatnonzero(table["split"].isin(parts))
    val = np.flatnonzero(table["split"] == "validation")
    x_all = torch.from_numpy(frames)[:, None]
    y_all = torch.from_numpy(
        np.concatenate([table[data.LABELS].to_numpy(np.float32), data.auxiliary_targets(table)], 1)
    )
    full = torch.tensor([[0.0, 0, 1, 1]]).expand(len(table), 4)
    model = Teacher().to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    batch, steps_epoch = 32, len(use) // 32
    total = epochs * steps_epoch
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0}], lr=1e-3
    )
    step, first, state_file = 0, 0, out.with_suffix(".part")
    if state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state["model"]), average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"]), generator.set_state(state["generator"])
        step, first = state["step"], state["epoch"]
    augment = data.Augmentation()
    for epoch in range(first, epochs):
        began, losses = time.time(), []
        order = torch.randperm(len(use), generator=generator)
        for k in data.progress_bar(range(steps_epoch), f"epoch {epoch + 1}/{epochs}"):
            pick = use[order[k * batch : (k + 1) * batch].numpy()]
            lr = (
                1e-3
                * min(1, (step + 1) / (0.05 * total))
                * (0.5 + 0.5 * math.cos(math.pi * step / total))
            )
            for group in optimiser.param_groups:
                group["lr"] = lr
            model.train()
            x = augment(x_all[pick].float() / 255, full[pick], SIZE, generator)
            x, y = data.mixup(x, y_all[pick], 0.4, generator)
            with torch.autocast("cpu", torch.bfloat16):
                logits, _ = model(x)
            n = len(data.LABELS)
            loss = F.binary_cross_entropy_with_logits(logits[:, :n], y[:, :n])
            loss = loss + 0.1 * F.binary_cross_entropy_with_logits(
                logits[:, n : n + 2], y[:, n : n + 2]
            )
            loss = loss + 0.05 * F.mse_loss(logits[:, n + 2], y[:, n + 2])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            keep = min(0.995, step / (step + 10))
            with torch.no_grad():
                for a, p in zip(average.state_dict().values(), model.state_dict().values()):
                    a.lerp_(p, 1 - keep) if a.is_floating_point() else a.copy_(p)
            losses.append(loss.item())
        pace = time.time() - began
        message = f"seed {seed} epoch {epoch + 1}/{epochs} loss {np.mean(losses):.4f} {pace:.1f}s"
        if (epoch + 1) % 5 == 0 or epoch + 1 == epochs:
            scores = predict(average, x_all[val], full[val])[:, : len(data.LABELS)]
            truth = y_all[val, : len(data.LABELS)].numpy()
            message += f" validation macro-AUROC {data.macro_auroc(truth, scores.numpy()):.4f}"
            torch.save(
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "generator": generator.get_state(),
                    "step": step,
                    "epoch": epoch + 1,
                },
                state_file,
            )
        log.info(message)
    torch.save(average.state_dict(), out)
    state_file.unlink(missing_ok=True)
