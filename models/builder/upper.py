"""What is trained: temporal module, EHR module, fusion and head, on frozen region tokens.

The paper's recipe is the default: AdamW 3e-5, weight decay 1e-4, cosine schedule, early stopping
with patience 15, mixed precision, up to 32 frames.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from medfusion.ehr import FtTransformer
from medfusion.fusion import Fusion
from medfusion.temporal import Temporal
from sklearn.metrics import roc_auc_score
from torch import nn
from tqdm import tqdm

from .studies import Studies


@dataclass
class Recipe:
    """Everything the command line can change of the training."""

    lr: float = 3e-5
    weight_decay: float = 1e-4
    epochs: int = 100
    patience: int = 15
    batch: int = 64
    warmup: float = 0.05  # share of all steps
    drop_feature: float = 0.1  # chance that one feature is missing, so that its token is learnt
    drop_ehr: float = 0.1  # chance that all are
    drop_priors: float = 0.3  # chance that a study comes without its priors
    mixed_precision: bool = True
    device: str = "cpu"
    seed: int = 0


@dataclass
class Sizes:
    """Of the trained modules."""

    width: int = 256
    temporal: str = "mamba"
    layers: int = 4
    fusion_layers: int = 2
    max_frames: int = 32


class Upper(nn.Module):
    """Everything above the vision module; `ehr` None = no EHR module."""

    def __init__(self, sizes: Sizes, vision: int, tokens: int, ehr: dict | None, labels: int):
        super().__init__()
        d = sizes.width
        common = {
            "model_type": sizes.temporal,
            "hidden_size": d,
            "vision_hidden_size": vision,
            "max_frames": sizes.max_frames,
            "tokens_per_frame": tokens,
            "position": "rank",
            "bidirectional": sizes.temporal == "mamba",
            "num_hidden_layers": sizes.layers,
        }
        mamba = {
            "state_size": 16,
            "conv_kernel": 4,
            "expand": 2,
            "time_step_rank": math.ceil(d / 16),
            "layer_norm_epsilon": 1e-5,
            "use_bias": False,
            "use_conv_bias": True,
        }
        attention = {"num_attention_heads": 8, "intermediate_size": 4 * d, "layer_norm_eps": 1e-5}
        own = {"mamba": mamba, "transformer": attention, "none": {}}[sizes.temporal]
        self.tokens = tokens
        self.temporal = Temporal(common | own)
        self.ehr = FtTransformer(ehr) if ehr else None
        self.fusion = Fusion(
            {
                "model_type": "fusion",
                "hidden_size": d,
                "num_layers": sizes.fusion_layers if ehr else 0,
                "num_attention_heads": 8,
                "intermediate_size": 2 * d,
                "layer_norm_eps": 1e-5,
                "ehr_hidden_size": ehr["d_token"] if ehr else None,
                "head_hidden_size": d,
                "num_labels": labels,
                "batch_norm_eps": 1e-5,
            }
        )
        nn.init.normal_(self.temporal.token_type_embedding.weight, std=0.02)
        nn.init.normal_(self.temporal.position_embedding.weight, std=0.02)

    def forward(self, tokens: torch.Tensor, ehr: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """tokens (b, frames, R·R + 1, dv) → logits (b, labels)."""
        context = None if self.ehr is None else self.ehr(*ehr)
        return self.fusion(self.temporal(tokens), context, self.tokens)


def ehr_config(numeric: int, cardinalities: list[int]) -> dict | None:
    """rtdl's default size of three blocks; None without features."""
    if numeric + len(cardinalities) == 0:
        return None
    return {
        "model_type": "ft_transformer",
        "d_token": 192,
        "n_blocks": 3,
        "attention_n_heads": 8,
        "ffn_d_hidden": 256,
        "n_cont": numeric,
        "cat_cardinalities": cardinalities,
        "output_tokens": "all",
    }


def masked_loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over the labels that are known."""
    known = ~y.isnan()
    loss = F.binary_cross_entropy_with_logits(logits, y.nan_to_num(), reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def macro_auroc(y: np.ndarray, scores: np.ndarray) -> float:
    """Over the labels that have both classes among the known; NaN when none has."""
    values = []
    for k in range(y.shape[1]):
        known = ~np.isnan(y[:, k])
        if len(np.unique(y[known, k])) == 2:
            values.append(roc_auc_score(y[known, k], scores[known, k]))
    return float(np.mean(values)) if values else float("nan")


class Trainer:
    """Trains an Upper on cached tokens (images, R·R + 1, dv) and x_cont, x_cat, missing."""

    def __init__(
        self,
        model: Upper,
        tokens: torch.Tensor,
        ehr: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        studies: Studies,
        recipe: Recipe,
    ) -> None:
        self.model, self.tokens, self.ehr, self.recipe = (
            model.to(recipe.device),
            tokens,
            ehr,
            recipe,
        )
        self.y = torch.from_numpy(studies.y)
        self.split = studies.table["split"].to_numpy()
        self.series = studies.series(model.temporal.config["max_frames"])
        self.generator = torch.Generator().manual_seed(recipe.seed)

    def run(self, rows: list[int], series: list[np.ndarray], missing: torch.Tensor) -> torch.Tensor:
        """Logits of studies `rows`, whose series have the same length."""
        device = self.recipe.device
        index = torch.from_numpy(np.stack(series))
        ehr = (self.ehr[0][rows], self.ehr[1][rows], missing)
        with torch.autocast(device.split(":")[0], torch.bfloat16, self.recipe.mixed_precision):
            logits = self.model(
                self.tokens[index].to(device, torch.float32), tuple(x.to(device) for x in ehr)
            )
        return logits.float()

    def batches(self, rows: np.ndarray, train: bool) -> list[list[tuple[int, np.ndarray]]]:
        """Studies grouped by the length of their series, in random order when training."""
        order = torch.randperm(len(rows), generator=self.generator).tolist()
        groups: dict[int, list[tuple[int, np.ndarray]]] = {}
        for i in (rows[k] for k in order) if train else rows:
            own = self.series[i]
            if train and float(torch.rand(1, generator=self.generator)) < self.recipe.drop_priors:
                own = own[-1:]
            groups.setdefault(len(own), []).append((int(i), own))
        size = self.recipe.batch
        out = [g[k : k + size] for g in groups.values() for k in range(0, len(g), size)]
        if train:  # BatchNorm needs two
            out = [batch for batch in out if len(batch) > 1]
            out = [out[k] for k in torch.randperm(len(out), generator=self.generator).tolist()]
        return out

    @torch.no_grad()
    def score(self, part: str) -> tuple[float, float]:
        """Loss and macro AUROC of one split."""
        self.model.eval()
        rows = np.flatnonzero(self.split == part)
        if len(rows) == 0:
            return float("nan"), float("nan")
        out = torch.zeros(len(self.y), self.y.shape[1])
        for batch in self.batches(rows, False):
            index = [i for i, _ in batch]
            out[index] = self.run(index, [s for _, s in batch], self.ehr[2][index]).cpu()
        y = self.y[rows]
        return float(masked_loss(out[rows], y)), macro_auroc(y.numpy(), out[rows].numpy())

    def dropped(self, rows: list[int]) -> torch.Tensor:
        """The missing flags with single features and whole patients dropped at random."""
        shape = self.ehr[2][rows].shape
        one = torch.rand(shape, generator=self.generator) < self.recipe.drop_feature
        every = torch.rand(shape[0], 1, generator=self.generator) < self.recipe.drop_ehr
        return self.ehr[2][rows] | one | every

    def epoch(self, optimiser: torch.optim.Optimizer, step: int, steps: int) -> int:
        """One pass over the training studies; the step it ends at."""
        self.model.train()
        warmup = max(1, int(self.recipe.warmup * steps))
        for batch in self.batches(np.flatnonzero(self.split == "train"), True):
            share = min(1.0, step / steps)
            factor = min(1, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * share))
            for group in optimiser.param_groups:
                group["lr"] = self.recipe.lr * factor
            rows = [i for i, _ in batch]
            logits = self.run(rows, [s for _, s in batch], self.dropped(rows))
            loss = masked_loss(logits, self.y[rows].to(logits.device))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimiser.step()
            step += 1
        return step

    def fit(self) -> list[dict]:
        """Trains until `patience` epochs bring no lower validation loss; keeps the best weights."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        plain = [p for p in self.model.parameters() if p.dim() < 2]
        decayed = [p for p in self.model.parameters() if p.dim() > 1]
        optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay},
             {"params": plain, "weight_decay": 0.0}], lr=recipe.lr,
        )  # fmt: skip
        train = int((self.split == "train").sum())
        steps = recipe.epochs * max(1, math.ceil(train / recipe.batch))
        best, since, step, history = float("inf"), 0, 0, []
        weights = copy.deepcopy(self.model.state_dict())
        for epoch in (progress := tqdm(range(recipe.epochs), "training", disable=None)):
            step = self.epoch(optimiser, step, steps)
            loss, auroc = self.score("val")
            history.append({"epoch": epoch, "val_loss": loss, "val_auroc": auroc})
            progress.set_postfix(loss=f"{loss:.4f}", auroc=f"{auroc:.4f}")
            if loss < best:
                best, since, weights = loss, 0, copy.deepcopy(self.model.state_dict())
            else:
                since += 1
            if since >= recipe.patience:
                break
        self.model.load_state_dict(weights)
        return history
