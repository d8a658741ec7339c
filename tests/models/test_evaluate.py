"""The metrics of models/evaluate.py against scikit-learn and the published DenseNet-121 figures."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
metrics = pytest.importorskip("sklearn.metrics")
np = pytest.importorskip("numpy")
pandas = pytest.importorskip("pandas")
sys.path.insert(0, str(Path(__file__).parents[2] / "models"))

import evaluate  # noqa: E402
from training import data  # noqa: E402

FIXTURE = Path(__file__).parents[3] / "shared" / "data" / "nih_densenet"


@pytest.mark.parametrize("weighted", [False, True])
def test_ranking_equals_scikit_learn_with_ties(weighted):
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.2).astype(float)
    scores = np.round(rng.normal(size=300) + labels, 1)
    weights = rng.integers(0, 4, 300).astype(float) if weighted else np.ones(300)
    ranking = evaluate.Ranking(labels, scores)
    auroc = metrics.roc_auc_score(labels, scores, sample_weight=weights)
    average = metrics.average_precision_score(labels, scores, sample_weight=weights)
    assert ranking.auroc(weights[None])[0] == pytest.approx(auroc, abs=1e-12)
    assert ranking.average_precision(weights[None])[0] == pytest.approx(average, abs=1e-12)


def test_one_class_only_is_skipped_and_counted():
    ranking = evaluate.Ranking(np.array([1.0, 0, 0]), np.array([0.3, 0.2, 0.1]))
    values = ranking.auroc(np.array([[1.0, 1, 1], [0, 1, 1], [1, 1, 0]]))
    found = evaluate.interval(values)
    assert found["value"] == 1.0 and found["skipped"] == 1


def test_resamples_draw_whole_patients():
    patients = np.array([5, 5, 7, 9])
    weights = evaluate.resamples(patients, 50)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[1:, [0, 2, 3]].sum(1) == 3).all()


def test_calibration_error_of_a_known_case():
    labels = np.array([0.0, 0, 1, 1])
    assert evaluate.equal_mass_ece(labels, np.array([0.1, 0.1, 0.9, 0.9]), 2) == pytest.approx(0.1)


def test_published_densenet_figure():
    if not FIXTURE.exists():
        pytest.skip("no ../shared/data")
    scores = pandas.read_csv(FIXTURE / "predictions.csv.gz")
    truth = pandas.read_csv(FIXTURE / "nih_metadata.csv.gz")
    both = scores.merge(truth, on="Image Index", validate="one_to_one")
    found = both["Finding Labels"].str.split("|")
    ones = np.ones((1, len(both)))
    auroc = []
    for label in data.LABELS:
        labels = np.array([label in names for names in found], float)
        auroc.append(evaluate.Ranking(labels, both[f"prob_{label}"].to_numpy()).auroc(ones)[0])
    assert np.mean(auroc) == pytest.approx(0.8383, abs=2e-4)


def test_no_patient_is_in_two_parts():
    splits = pandas.read_csv(evaluate.MODELS / "thorax-nih" / "splits.csv")
    assert splits["patient_id"].is_unique
    assert set(splits["split"]) == set(data.PARTS)
