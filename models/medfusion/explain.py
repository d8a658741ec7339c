"""Why the network said what it said (engine/explain/ is the same in C): integrated gradients,
gradient-weighted relevance, attention rollout, leave-one-out of frames, Shapley values of EHR
features.

Integrated gradients (Sundararajan et al. 2017) follow the straight line from the blurred image to
the image; what the patches made of the logit's change sums to that change.

Relevance is a row vector over tokens that walks the network backwards. It begins at the tokens that
the head reads, and in every layer r ← r + r·Ā: what a token owes to the tokens that it looked at.
  rollout    (Abnar & Zuidema 2020)  Ā = mean over heads of A, rows of I + Ā sum to one; one map
             for all labels
  relevance  (Chefer et al. 2021)    Ā = mean over heads of (∂logit/∂A ⊙ A)₊; a map per label
A Mamba layer has the attention that its recurrence unrolls to (Ali et al. 2024), per channel
  A_ts = c_t · (Π decay_{s+1…t}) drive_s, s ≤ t, plus D at s = t;
its channels take the place of heads, |A| that of A in a rollout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
import torch.nn.functional as F

from .network import Ehr, MedFusion
from .temporal import Attention, MambaMixer, Scan
from .vision import region_tokens


@dataclass
class Trace:
    """One forward pass with everything that relevance walks through, in the graph of autograd."""

    vision: list[torch.Tensor]  # per layer (frames, heads, tokens, tokens)
    hidden: torch.Tensor  # (frames, tokens, dv): after the ViT's last norm
    regions: torch.Tensor  # (frames, 17, dv)
    forward: list  # attention weights (1, heads, t, t) or Scan, per layer
    backward: list  # of the reversed sequence; empty unless bidirectional
    image_reads: list[torch.Tensor]  # per fusion layer (1, heads, t, n)
    ehr_reads: list[torch.Tensor]  # per fusion layer (1, heads, n, t)
    fused_image: torch.Tensor  # (1, t, d)
    fused_ehr: torch.Tensor | None  # (1, n, d)
    logits: torch.Tensor  # (labels)

    def recorded(self) -> list[torch.Tensor]:
        """Every tensor whose gradient relevance needs."""
        layers = [
            layer.y if isinstance(layer, Scan) else layer for layer in self.forward + self.backward
        ]
        ehr = [] if self.fused_ehr is None else [self.fused_ehr]
        attention = self.vision + layers + self.image_reads + self.ehr_reads
        return [*attention, self.regions, self.hidden, self.fused_image, *ehr]


def ehr_tokens(model: MedFusion, ehr: Ehr | None) -> torch.Tensor | None:
    if model.ehr is None:
        return None
    if ehr is None:
        n_cont, n_cat = model.ehr.config["n_cont"], len(model.ehr.config["cat_cardinalities"])
        none = torch.ones(n_cont + n_cat, dtype=torch.bool)
        ehr = Ehr(torch.zeros(n_cont), torch.zeros(n_cat, dtype=torch.long), none)
    return model.ehr(ehr.x_cont[None], ehr.x_cat[None], ehr.missing[None])


def pool(hidden: torch.Tensor, rows: int, cols: int, regions: int) -> torch.Tensor:
    """As vision.region_tokens, from the ViT's hidden states."""
    patches = hidden[:, -rows * cols :].transpose(1, 2).unflatten(2, (rows, cols))
    pooled = F.adaptive_avg_pool2d(patches, regions).flatten(2).transpose(1, 2)
    return torch.cat([pooled, hidden[:, :1]], 1)


def grid_of(model: MedFusion, pixels: torch.Tensor) -> tuple[int, int]:
    patch = model.vision.config.patch_size
    return pixels.shape[2] // patch, pixels.shape[3] // patch


def trace(
    model: MedFusion, pixels: torch.Tensor, ehr: Ehr | None, where: torch.Tensor | None
) -> Trace:
    """pixels (frames, 3, H, W): the vision module's inputs."""
    pixels = pixels.detach().requires_grad_(True)  # so that everything after it has a gradient
    modules = [m for m in model.modules() if isinstance(m, (Attention, MambaMixer))]
    lists: dict = {m: [] for m in modules}
    for module, found in lists.items():
        module.record = found
    model.vision.set_attn_implementation("eager")  # the others keep the weights to themselves
    interpolate = (
        {"interpolate_pos_encoding": True} if model.vision.config.model_type == "vit" else {}
    )
    try:
        vision = model.vision(pixels, output_attentions=True, **interpolate)
        hidden = vision.last_hidden_state
        regions = pool(hidden, *grid_of(model, pixels), model.bundle["regions"])
        image, ehr_hidden = model.temporal(regions[None], where), ehr_tokens(model, ehr)
        fused, fused_ehr = model.fusion.fuse(image, ehr_hidden)
        readout = model.fusion.readout(fused, fused_ehr, regions.shape[1])
        logits = model.fusion.head(readout)[0]
    finally:
        for module in modules:
            module.record = None
        model.vision.set_attn_implementation("sdpa")

    def of(part: torch.nn.Module | None) -> list:
        return [found for m in part.modules() for found in lists.get(m, [])] if part else []

    layers = getattr(model.fusion, "layers", [])
    kind = model.temporal.config["model_type"]
    stack = {"mamba": "backbone", "transformer": "encoder"}.get(kind, "")
    return Trace(
        list(vision.attentions),
        hidden,
        regions,
        of(getattr(model.temporal, stack, None)),
        of(getattr(model.temporal, "backbone_reverse", None)),
        [found for layer in layers for found in of(layer.image)],
        [found for layer in layers for found in of(layer.ehr)],
        fused,
        fused_ehr,
        logits,
    )


def unrolled(scan: Scan) -> torch.Tensor:
    """The attention of one recurrence: (t, t, inner); entry [t, s] is what step s gives to t."""
    decay, drive, c = scan.decay[0], scan.drive[0], scan.c[0]
    t, inner = scan.x.shape[1:]
    attention = torch.zeros(t, t, inner)
    for s in range(t):
        state = drive[s]  # (inner, n)
        for i in range(s, t):
            state = decay[i] * state if i > s else state
            attention[i, s] = state @ c[i]
        attention[s, s] += scan.d
    return attention


class Relevance:
    """(∂logit/∂A ⊙ A)₊ and the seeds that go with it, of one label."""

    def __init__(self, t: Trace, label: int) -> None:
        wanted = t.recorded()
        found = torch.autograd.grad(t.logits[label], wanted, retain_graph=True, allow_unused=True)
        self.gradients = {
            id(a): torch.zeros_like(a) if g is None else g for a, g in zip(wanted, found)
        }

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.gradients[id(tensor)]

    def tokens(self, values: torch.Tensor) -> torch.Tensor:
        """What each token gave to the logit, at first order: (g · value)₊ of the last dimension."""
        return (self.of(values) * values).sum(-1).clamp(min=0).detach()

    def seeds(self, t: Trace) -> tuple[torch.Tensor, torch.Tensor | None]:
        ehr = None if t.fused_ehr is None else self.tokens(t.fused_ehr)[0]
        return self.tokens(t.fused_image)[0], ehr

    def attention(self, a: torch.Tensor) -> torch.Tensor:
        """(…, heads, m, n) → (…, m, n)."""
        return (self.of(a) * a).clamp(min=0).mean(-3).detach()

    def scan(self, scan: Scan) -> torch.Tensor:
        """∂logit/∂A_ts of a channel is ∂logit/∂y_t · x_s."""
        gradient = self.of(scan.y)[0][:, None] * scan.x[0][None]
        return (gradient * unrolled(scan)).clamp(min=0).mean(-1).detach()

    def step(self, r: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return r + (r[..., None, :] @ a)[..., 0, :]

    def cross(
        self, image: torch.Tensor, ehr: torch.Tensor, reads: torch.Tensor, read_by: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image reads EHR (t, n), EHR reads image (n, t), both as they were before the layer."""
        return image + ehr @ read_by, ehr + image @ reads

    def pooled(self, t: Trace, frame: int, region: int, members: torch.Tensor) -> torch.Tensor:
        """How the relevance of a region is shared by its patches: as they gave to the logit."""
        share = (t.hidden[frame, members] @ self.of(t.regions)[frame, region]).clamp(min=0)
        whole = share.sum()
        return (share / whole if whole > 0 else torch.ones_like(share) / len(members)).detach()


class Rollout:
    """Attention alone: no label, no gradient."""

    def seeds(self, t: Trace) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The parts of the readout, equal shares."""
        n, per_frame = t.fused_image.shape[1], t.regions.shape[1]
        parts = 3 if t.fused_ehr is None else 4
        image = torch.full((n,), 1 / n)
        image[-1] += 1
        image[-per_frame:-1] += 1 / (per_frame - 1)
        ehr = None
        if t.fused_ehr is not None:
            ehr = torch.zeros(t.fused_ehr.shape[1])
            ehr[0] = 1 / parts
        return image / parts, ehr

    def attention(self, a: torch.Tensor) -> torch.Tensor:
        return a.mean(-3).detach()

    def scan(self, scan: Scan) -> torch.Tensor:
        a = unrolled(scan).abs().mean(-1).detach()
        whole = a.sum(-1, keepdim=True)
        return torch.where(whole > 0, a / whole, torch.eye(len(a)))

    def step(self, r: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return (r + (r[..., None, :] @ a)[..., 0, :]) / 2

    def cross(
        self, image: torch.Tensor, ehr: torch.Tensor, reads: torch.Tensor, read_by: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return (image + ehr @ read_by) / 2, (ehr + image @ reads) / 2

    def pooled(self, t: Trace, frame: int, region: int, members: torch.Tensor) -> torch.Tensor:
        return torch.full((len(members),), 1 / len(members))


def through_stack(rule: Relevance | Rollout, r: torch.Tensor, layers: list) -> torch.Tensor:
    for layer in reversed(layers):
        a = rule.scan(layer) if isinstance(layer, Scan) else rule.attention(layer)[0]
        r = rule.step(r, a)
    return r


def through_pooling(
    rule: Relevance | Rollout, t: Trace, r: torch.Tensor, rows: int, cols: int
) -> torch.Tensor:
    """Relevance of region tokens (frames, 17) → of the ViT's tokens (frames, tokens)."""
    out = torch.zeros(t.hidden.shape[:2])
    regions = round((r.shape[1] - 1) ** 0.5)
    first = t.hidden.shape[1] - rows * cols
    index = torch.arange(rows * cols).view(rows, cols)
    for k in range(regions * regions):
        i, j = divmod(k, regions)
        y = slice(i * rows // regions, -(-(i + 1) * rows // regions))
        x = slice(j * cols // regions, -(-(j + 1) * cols // regions))
        members = first + index[y, x].flatten()
        for f in range(len(out)):
            out[f, members] += r[f, k] * rule.pooled(t, f, k, members)
    out[:, 0] += r[:, -1]
    return out


def walk(
    rule: Relevance | Rollout, t: Trace, rows: int, cols: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """From the head to the pixels: (frames, rows, cols) and relevance of the EHR tokens (n)."""
    image, ehr = rule.seeds(t)
    for reads, read_by in zip(reversed(t.image_reads), reversed(t.ehr_reads)):
        image, ehr = rule.cross(
            image, ehr, rule.attention(reads)[0], rule.attention(read_by)[0]
        )
    first = through_stack(rule, image, t.forward)
    if t.backward:
        first = (first + through_stack(rule, image.flip(0), t.backward).flip(0)) / 2
    r = through_pooling(rule, t, first.view(t.regions.shape[:2]), rows, cols)
    for a in reversed(t.vision):
        r = rule.step(r, rule.attention(a))
    return r[:, -rows * cols :].unflatten(1, (rows, cols)), ehr


@dataclass
class Explanation:
    """Of one study and some labels; shares sum to 1 over patches and EHR."""

    attribution: torch.Tensor  # (labels, frames, rows, cols), logits
    relevance: torch.Tensor  # (labels, frames, rows, cols), shares
    relevance_of_ehr: torch.Tensor  # (labels)
    rollout: torch.Tensor  # (frames, rows, cols), shares
    rollout_of_ehr: torch.Tensor  # ()
    logit: torch.Tensor  # (labels)
    blurred: torch.Tensor  # (labels): the logits of blurred frames
    frame: torch.Tensor  # (labels, frames): logit − logit without the frame; NaN for the only one
    shapley: torch.Tensor  # (labels, features)
    unknown: torch.Tensor  # (labels): the logits with every feature missing


def blur(pixels: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian, cut at ceil(3σ), edges repeated: where the line begins."""
    reach = math.ceil(3 * sigma)
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-at.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).float()
    planes = F.pad(pixels.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return planes[:, 0].view_as(pixels)


def logits_of(
    model: MedFusion, regions: torch.Tensor, ehr: Ehr | None, where: torch.Tensor | None
) -> torch.Tensor:
    image = model.temporal(regions[None], where)
    fused, fused_ehr = model.fusion.fuse(image, ehr_tokens(model, ehr))
    return model.fusion.head(model.fusion.readout(fused, fused_ehr, regions.shape[1]))[0]


def attribution(
    model: MedFusion,
    pixels: torch.Tensor,
    ehr: Ehr | None,
    where: torch.Tensor | None,
    labels: list[int],
    steps: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Integrated gradients by the midpoint rule: maps, and the logits where the line begins."""
    patch, (rows, cols) = model.vision.config.patch_size, grid_of(model, pixels)
    first = blur(pixels, patch)
    total = torch.zeros(len(labels), *pixels.shape)
    for k in range(steps):
        point = (first + (k + 0.5) / steps * (pixels - first)).requires_grad_(True)
        logits = logits_of(model, region_tokens(model.vision, point, model.bundle["regions"]), ehr, where)
        for i, label in enumerate(labels):
            total[i] += torch.autograd.grad(logits[label], point, retain_graph=True)[0] / steps
    made = (total * (pixels - first)).sum(2)[..., : rows * patch, : cols * patch]
    with torch.no_grad():
        begin = logits_of(model, region_tokens(model.vision, first, model.bundle["regions"]), ehr, where)
    return made.unflatten(3, (cols, patch)).unflatten(2, (rows, patch)).sum((3, 5)), begin[labels]


@torch.no_grad()
def without_frames(
    model: MedFusion, regions: torch.Tensor, ehr: Ehr | None, where: torch.Tensor | None
) -> torch.Tensor:
    """(frames, labels): the logits when one frame is left out; ranks and days as if it had never
    been.
    """
    out = []
    for f in range(len(regions)):
        kept = [i for i in range(len(regions)) if i != f]
        there = None if where is None else where[kept]
        if there is not None and model.temporal.config["position"] == "days":
            there = there - there[-1]
        out.append(logits_of(model, regions[kept], ehr, there))
    return torch.stack(out)


@torch.no_grad()
def shapley(
    model: MedFusion, regions: torch.Tensor, ehr: Ehr, where: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(features, labels), and the logits with nothing known: every coalition of the features that
    are there; one that is not there is worth nothing.
    """
    players = [i for i, absent in enumerate(ehr.missing.tolist()) if not absent]

    def value(present: tuple[int, ...]) -> torch.Tensor:
        missing = torch.ones_like(ehr.missing)
        missing[list(present)] = False
        return logits_of(model, regions, Ehr(ehr.x_cont, ehr.x_cat, missing), where)

    values = {s: value(s) for k in range(len(players) + 1) for s in combinations(players, k)}
    shares = torch.zeros(len(ehr.missing), len(values[()]))
    for s, before in values.items():
        for i in set(players) - set(s):
            weight = 1 / (len(players) * comb(len(players) - 1, len(s)))
            shares[i] += weight * (values[tuple(sorted((*s, i)))] - before)
    return shares, values[()]


def explain(
    model: MedFusion,
    pixels: torch.Tensor,
    ehr: Ehr | None,
    where: torch.Tensor | None,
    labels: list[int],
    steps: int = 16,
) -> Explanation:
    """pixels (frames, 3, H, W): the vision module's inputs ("pixel_values" of Output.stages)."""
    grid = grid_of(model, pixels)
    t = trace(model, pixels, ehr, where)
    maps, of_ehr = zip(
        *(walk(rule, t, *grid) for rule in (Rollout(), *(Relevance(t, c) for c in labels)))
    )
    maps = torch.stack(maps)
    of_ehr = torch.stack([torch.zeros(()) if r is None else r.sum() for r in of_ehr])
    whole = maps.sum((1, 2, 3)) + of_ehr
    whole = torch.where(whole > 0, whole, 1)
    maps, of_ehr = maps / whole[:, None, None, None], of_ehr / whole
    made, begin = attribution(model, pixels, ehr, where, labels, steps)
    logit, regions = t.logits.detach()[labels], t.regions.detach()
    frame = torch.full((len(labels), len(pixels)), torch.nan)
    if len(pixels) > 1:
        frame = logit[:, None] - without_frames(model, regions, ehr, where)[:, labels].T
    shares = unknown = torch.zeros(len(labels), 0)
    if model.ehr is not None:
        if ehr is None:
            n = model.ehr.config["n_cont"], len(model.ehr.config["cat_cardinalities"])
            none = torch.ones(sum(n), dtype=torch.bool)
            ehr = Ehr(torch.zeros(n[0]), torch.zeros(n[1], dtype=torch.long), none)
        shares, unknown = shapley(model, regions, ehr, where)
        shares, unknown = shares[:, labels].T, unknown[labels]
    return Explanation(
        made, maps[1:], of_ehr[1:], maps[0], of_ehr[0], logit, begin, frame, shares, unknown
    )
