"""Step `fusion`: temporal module, EHR module, fusion and head together, on region tokens of the
frozen segmenter and ViT.

Every prefix of a patient's series is a sample: its newest image carries the labels. Priors, single
features and the whole EHR are dropped at random, so that the learned missing tokens and short
series are seen as often as complete ones. Tokens of random views and the teacher's soft labels
stand against overfitting.
"""

from __future__ import annotations

import copy
import logging
import math
import time

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from medfusion.ehr import FtTransformer
from medfusion.fusion import Fusion
from medfusion.temporal import Temporal
from torch import nn

from . import data

D, TOKENS, MAX_FRAMES = 128, 17, 32
LABELS = len(data.LABELS)
VIEWS = ["PA", "AP"]
SEXES = ["female", "male"]
AGE_MEAN, AGE_STD = 46.0, 17.0


def temporal_config(
    vision_size: int, kind: str = "mamba", width: int = D, frames: int = MAX_FRAMES
) -> dict:
    common = {
        "model_type": kind,
        "hidden_size": width,
        "vision_hidden_size": vision_size,
        "max_frames": frames,
        "tokens_per_frame": TOKENS,
        "position": "rank",
        "bidirectional": kind == "mamba",
    }
    own = {
        "mamba": {
            "state_size": 8,
            "conv_kernel": 4,
            "expand": 2,
            "time_step_rank": 8,
            "num_hidden_layers": 2,
            "layer_norm_epsilon": 1e-5,
            "use_bias": False,
            "use_conv_bias": True,
        },
        "transformer": {
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 2 * width,
            "layer_norm_eps": 1e-5,
        },
        "none": {},
    }
    return common | own[kind]


def ehr_config() -> dict:
    return {
        "model_type": "ft_transformer",
        "d_token": 64,
        "n_blocks": 2,
        "attention_n_heads": 4,
        "ffn_d_hidden": 96,
        "n_cont": 1,
        "cat_cardinalities": [len(SEXES), len(VIEWS)],
        "output_tokens": "all",
    }


def fusion_config(ehr: bool, width: int = D) -> dict:
    return {
        "model_type": "fusion",
        "hidden_size": width,
        "num_layers": 2 if ehr else 0,
        "num_attention_heads": 4,
        "intermediate_size": 2 * width,
        "layer_norm_eps": 1e-5,
        "ehr_hidden_size": 64 if ehr else None,
        "head_hidden_size": width,
        "num_labels": LABELS,
        "batch_norm_eps": 1e-5,
    }


class Upper(nn.Module):
    """Everything above the ViT: by default what ships, else another sequence model and width, of the
    newest `frames` frames.
    """

    def __init__(
        self,
        vision_size: int,
        ehr: bool,
        temporal: str = "mamba",
        width: int = D,
        frames: int = MAX_FRAMES,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.temporal = Temporal(temporal_config(vision_size, temporal, width, frames))
        self.ehr = FtTransformer(ehr_config()) if ehr else None
        self.fusion = Fusion(fusion_config(ehr, width))
        nn.init.normal_(self.temporal.token_type_embedding.weight, std=0.02)
        nn.init.normal_(self.temporal.position_embedding.weight, std=0.02)

    def forward(
        self, tokens: torch.Tensor, ehr: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """tokens (b, frames, 17, dv) → logits (b, labels)."""
        context = None if self.ehr is None else self.ehr(*ehr)
        return self.fusion(self.temporal(tokens[:, -self.frames :]), context, TOKENS)


class EhrOnly(nn.Module):
    """The yardstick: the EHR module and a linear head, nothing of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.ehr, self.head = FtTransformer(ehr_config()), nn.Linear(64, LABELS)

    def forward(
        self, tokens: torch.Tensor, ehr: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        return self.head(self.ehr(*ehr)[:, 0])


def features(table: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor]:
    """x_cont (n, 1), x_cat (n, 2) in features.json's order: age; sex, view."""
    age = torch.tensor(((table["age"] - AGE_MEAN) / AGE_STD).to_numpy(np.float32))[:, None]
    sex = table["sex"].map({"F": 0, "M": 1}).to_numpy()
    view = table["view"].map({name: i for i, name in enumerate(VIEWS)}).to_numpy()
    return age, torch.from_numpy(np.stack([sex, view], 1)).long()


def priors_of(table: pd.DataFrame) -> list[np.ndarray]:
    """For every row the rows of the same patient's earlier images, oldest first (the table is in
    that order).
    """
    rows = table.groupby("patient_id").indices
    return [np.array([r for r in rows[p] if r < i], int) for i, p in enumerate(table["patient_id"])]


@torch.no_grad()
def predict(
    model: nn.Module,
    tokens: torch.Tensor,
    table: pd.DataFrame,
    rows: np.ndarray,
    use_ehr: bool = True,
    use_priors: bool = True,
) -> torch.Tensor:
    """Logits (n, labels) of the images `rows`, each with all earlier ones of its patient; NaN for
    the other rows. tokens (n, 17, dv) of the plain view."""
    model.eval()
    x_cont, x_cat = features(table)
    missing = torch.full((len(table), 3), not use_ehr)
    out = torch.full((len(table), LABELS), float("nan"))
    earlier = priors_of(table)
    keep = MAX_FRAMES - 1 if use_priors else 0
    series = {
        int(i): np.append(earlier[i][len(earlier[i]) - min(keep, len(earlier[i])) :], i)
        for i in rows
    }
    for length in sorted({len(s) for s in series.values()}):
        same = torch.tensor([i for i, s in series.items() if len(s) == length])
        for group in same.split(64):
            index = torch.from_numpy(np.stack([series[int(i)] for i in group]))
            ehr = (x_cont[group], x_cat[group], missing[group])
            out[group] = model(tokens[index].float(), ehr)
    return out


def train(
    model: nn.Module,
    views: torch.Tensor,
    soft: torch.Tensor,
    table: pd.DataFrame,
    use: np.ndarray,
    steps: int,
    val: tuple[torch.Tensor, np.ndarray],
    name: str,
    seed: int = 0,
    hard_weight: float = 0.5,
) -> nn.Module:
    """views (n, k, 17, dv): tokens of k random views of every row; soft (n, labels): teacher's
    logits (NaN = none); use: rows to train on; val: (tokens of all rows, rows to score: may be none).
    Returns the averaged weights.
    """
    log = logging.getLogger(name)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x_cont, x_cat = features(table)
    y = torch.tensor(table[data.LABELS].to_numpy(np.float32))
    earlier = priors_of(table)
    inside = np.zeros(len(table), bool)
    inside[use] = True
    depth = np.array([len(p) if inside[i] else -1 for i, p in enumerate(earlier)])
    # The ViT knows its training images by heart, so the tokens of priors tell more here than they will of
    # a new patient: most samples do without them.
    lengths = torch.tensor([0.8, 0.1, 0.04, 0.025, 0.015, 0.01, 0.01])
    lengths = lengths[: depth.max() + 1]  # a small part may lack the longest series
    average = copy.deepcopy(model)
    gates = [p for key, p in model.named_parameters() if p.dim() <= 1]
    rest = [p for key, p in model.named_parameters() if p.dim() > 1]
    optimiser = torch.optim.AdamW(
        [{"params": rest, "weight_decay": 0.1}, {"params": gates, "weight_decay": 0}], lr=5e-4
    )
    began, losses = time.time(), []
    for step in data.progress_bar(range(steps), name):
        length = 1 + int(torch.multinomial(lengths, 1, generator=generator))
        batch = max(16, 64 // length)
        candidates = np.flatnonzero(depth >= length - 1)
        pick = candidates[torch.randint(len(candidates), (batch,), generator=generator).numpy()]
        index = torch.empty(batch, length, dtype=torch.long)
        for row, i in enumerate(pick):
            chosen = (
                torch.randperm(len(earlier[i]), generator=generator)[: length - 1]
                .sort()
                .values.numpy()
            )
            index[row] = torch.from_numpy(np.append(earlier[i][chosen], i))
        view = torch.randint(views.shape[1], (batch, length), generator=generator)
        tokens = views[index, view].float()
        missing = torch.rand(batch, 3, generator=generator) < 0.2
        missing |= torch.rand(batch, 1, generator=generator) < 0.15
        cont = x_cont[pick] + 0.1 * torch.randn(batch, 1, generator=generator)
        lr = (
            5e-4
            * min(1, (step + 1) / (0.05 * steps))
            * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        )
        for group in optimiser.param_groups:
            group["lr"] = lr
        model.train()
        logits = model(F.dropout(tokens, 0.2), (cont, x_cat[pick], missing))
        target, teacher = y[pick], soft[pick]
        mixed = torch.where(
            teacher.isnan(), target, hard_weight * target + (1 - hard_weight) * teacher.sigmoid()
        )
        loss = F.binary_cross_entropy_with_logits(logits, mixed)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        keep = min(0.99, (step + 1) / (step + 11))
        with torch.no_grad():
            for a, p in zip(average.state_dict().values(), model.state_dict().values()):
                a.lerp_(p, 1 - keep) if a.is_floating_point() else a.copy_(p)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            pace = (time.time() - began) / (step + 1)
            message = (
                f"{name} step {step + 1}/{steps} loss {np.mean(losses):.4f} {pace:.2f}s a step"
            )
            tokens, rows = val
            if len(rows) and ((step + 1) % 200 == 0 or step + 1 == steps):
                labels = y[rows].numpy()
                for what, use_ehr in (("full", True), ("no EHR", False)):
                    logits = predict(average, tokens, table, rows, use_ehr=use_ehr)[rows]
                    message += f" {what} {data.macro_auroc(labels, logits.numpy()):.4f}"
            log.info(message)
            losses = []
    return average.eval()
