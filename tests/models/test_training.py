"""What training relies on: the fast ViT block is Hugging Face's, folds share no patient, resuming goes on."""

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("efficientnet_lite_pytorch")
np = pytest.importorskip("numpy")
pandas = pytest.importorskip("pandas")
sys.path.insert(0, str(Path(__file__).parents[2] / "models"))

from training import crossval, data, segmenter, teacher, vision  # noqa: E402


def test_fast_block_equals_hugging_face():
    torch.manual_seed(0)
    vit = vision.Student().vit.eval()
    with torch.no_grad():
        for p in vit.parameters():  # LayerScale and biases away from their initial values
            p.add_(0.1 * torch.randn_like(p))
        x = torch.randn(2, 1, vision.SIZE, vision.SIZE)
        want = vit(x.expand(-1, 3, -1, -1)).last_hidden_state
        tokens = vision.embed(vit, x, None)
        for layer in vit.encoder.layer:
            tokens = vision.block(layer, tokens, 0.0)
        assert (vit.layernorm(tokens) - want).abs().max() < 1e-4 * want.abs().max()


def test_embedding_of_kept_patches_is_a_selection_of_all():
    torch.manual_seed(0)
    vit = vision.Student().vit
    x, keep = torch.randn(2, 1, vision.SIZE, vision.SIZE), torch.tensor([[3, 250], [0, 17]])
    with torch.no_grad():
        every, some = vision.embed(vit, x, None), vision.embed(vit, x, keep)
    assert torch.allclose(some[:, 0], every[:, 0])
    for row in range(2):
        assert torch.allclose(some[row, 1:], every[row, 1 + keep[row]], atol=1e-5)


def test_teacher_answers_the_mean_of_its_places():
    model = teacher.Teacher().eval()
    x = torch.rand(2, 1, teacher.SIZE, teacher.SIZE)
    with torch.no_grad():
        places, whole = model.places(x), model(x)
    assert places.shape == (2, teacher.CAM**2, teacher.OUTPUTS)
    assert torch.allclose(places.mean(1), whole, atol=1e-4)


def table(patients: int = 60) -> pandas.DataFrame:
    rng = np.random.default_rng(0)
    rows = pandas.DataFrame({"patient_id": np.repeat(np.arange(patients), 2)})
    rows["view"] = rng.choice(["PA", "AP"], len(rows))
    for label in data.LABELS:
        rows[label] = (rng.random(len(rows)) < 0.2).astype(int)
    return rows


def test_folds_share_no_patient_and_pool_takes_the_held_out_answer():
    rows = table()
    fold = crossval.folds(rows, 3)
    assert sorted(set(fold)) == [0, 1, 2]
    assert rows.assign(fold=fold).groupby("patient_id")["fold"].nunique().max() == 1
    scores = [{"full": torch.full((len(rows), 2), float(k))} for k in range(3)]
    pooled = crossval.pool(scores, fold)["full"]
    assert (pooled[:, 0].numpy() == fold).all()


def test_mask_test_part_holds_whole_patients():
    index = pandas.DataFrame({"patient_id": np.repeat(np.arange(40), 2)})
    part = segmenter.test_part(index)
    assert part.sum() == 20 and index.assign(part=part).groupby("patient_id")["part"].nunique().max() == 1


def views_file(folder: Path) -> tuple:
    torch.manual_seed(0)
    n, path = 12, folder / "views.pt"
    torch.save(
        {
            "image": torch.randint(0, 255, (n, 2, vision.SIZE, vision.SIZE), dtype=torch.uint8),
            "logits": torch.randn(n, 2, vision.OUTPUTS),
            "cam": torch.randn(n, 2, vision.CAM**2, vision.OUTPUTS).half(),
        },
        path,
    )
    labels = (torch.rand(n, len(data.LABELS)) < 0.3).float()
    none = (torch.empty(0, 1, vision.SIZE, vision.SIZE), np.empty((0, len(data.LABELS))))
    return path, labels, torch.ones(n, dtype=torch.bool), none


def test_vision_training_is_seeded(tmp_path):
    given, found = views_file(tmp_path), []
    for name in ("a.pt", "b.pt"):
        vision.train(*given, tmp_path / name, 2, batch=4)
        found.append(torch.load(tmp_path / name))
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert not (tmp_path / "a.part").exists()
