"""models/evaluation: metrics against scikit-learn and by hand, corruptions, the report's files."""

import json
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")
pytest.importorskip("pydicom")
sys.path.insert(0, str(Path(__file__).parents[2] / "models"))

from evaluation import cases as data  # noqa: E402
from evaluation import corruptions, measure, metrics, report  # noqa: E402

ONE = np.ones((1, 400))


@pytest.fixture
def sample():
    rng = np.random.default_rng(3)
    probability = rng.beta(1, 4, 400)
    labels = (rng.random(400) < probability).astype(float)
    return labels, probability


def test_holm_is_as_in_the_textbook():
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([]) == []


def test_a_difference_of_zero_is_no_evidence():
    assert metrics.two_sided(np.zeros(101)) == 1.0
    assert metrics.two_sided(np.ones(101)) == pytest.approx(2 / 101)


def test_weights_are_repetitions(sample):
    """A resample's figures are those of the cases drawn, one by one."""
    labels, p = sample
    drawn = np.random.default_rng(0).integers(0, 400, 400)
    w = np.bincount(drawn, minlength=400)[None].astype(float)
    y, q, one = labels[drawn], p[drawn], ONE
    for figure in (metrics.brier, metrics.nll):
        assert figure(labels, p, w)[0] == pytest.approx(figure(y, q, one)[0], abs=1e-12)
    a, b = metrics.slope_and_intercept(labels, p, w), metrics.slope_and_intercept(y, q, one)
    assert a[0][0] == pytest.approx(b[0][0], abs=1e-8)
    assert a[1][0] == pytest.approx(b[1][0], abs=1e-8)
    flagged = (p >= 0.3).astype(float)
    assert metrics.f1(labels, flagged, w)[0] == pytest.approx(
        metrics.f1(y, flagged[drawn], one)[0]
    )


def test_metrics_are_those_of_scikit_learn(sample):
    sklearn = pytest.importorskip("sklearn.metrics")
    linear = pytest.importorskip("sklearn.linear_model")
    labels, p = sample
    assert metrics.brier(labels, p, ONE)[0] == pytest.approx(sklearn.brier_score_loss(labels, p))
    assert metrics.nll(labels, p, ONE)[0] == pytest.approx(sklearn.log_loss(labels, p))
    threshold = metrics.best_f1_threshold(labels, p)
    best = max(sklearn.f1_score(labels, p >= t) for t in np.unique(p))
    flagged = (p >= threshold).astype(float)
    assert metrics.f1(labels, flagged, ONE)[0] == pytest.approx(best)
    fitted = linear.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    fitted.fit(np.log(p / (1 - p))[:, None], labels)
    slope, intercept = metrics.slope_and_intercept(labels, p, ONE)
    assert slope[0] == pytest.approx(fitted.coef_[0, 0], abs=1e-5)
    assert intercept[0] == pytest.approx(fitted.intercept_[0], abs=1e-5)


def test_calibration_error_by_hand():
    labels, p = np.array([0.0, 0, 1, 1]), np.array([0.1, 0.1, 0.9, 0.9])
    truth, mean, mass = metrics.bin_errors(labels, p, np.ones((1, 4)), 2)
    assert truth[0].tolist() == [0, 1] and mass[0].tolist() == [2, 2]
    assert mean[0] == pytest.approx([0.1, 0.9])
    ece, ace = metrics.calibration_errors(labels, p, np.ones((1, 4)))
    assert ece[0] == pytest.approx(0.1) and ace[0] == pytest.approx(0.1)


def test_one_class_has_no_slope_no_f1_and_no_coverage_of_the_other():
    labels, p = np.zeros(400), np.full(400, 0.2)
    assert np.isnan(metrics.slope_and_intercept(labels, p, ONE)[0][0])
    assert np.isnan(metrics.f1(labels, np.zeros(400), ONE)[0])
    present, absent = metrics.coverage(labels, np.zeros(400), np.ones(400), ONE)
    assert np.isnan(present[0]) and absent[0] == 1
    assert metrics.best_f1_threshold(labels, p) == float("inf")


def test_the_most_certain_answers_come_first():
    labels, p = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.2, 0.4, 0.55])
    coverage, risk, area = metrics.risk_coverage(labels, p, np.ones((1, 4)))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 0, 1 / 3, 0.5])
    assert area[0] == pytest.approx((0 + 0 + 1 / 3 + 0.5) / 4)


@pytest.mark.parametrize("kind", corruptions.CORRUPTIONS)
def test_corruptions_are_deterministic_and_grow(kind):
    rng = np.random.default_rng(1)
    pixels = (np.indices((96, 112)).sum(0) % 64 * 3 + rng.integers(0, 20, (96, 112))).astype("u1")
    images = [corruptions.corrupt(pixels, "1.2.3", kind, s) for s in corruptions.SEVERITIES]
    again = corruptions.corrupt(pixels, "1.2.3", kind, 3)
    assert (images[2] == again).all() and images[0].dtype == np.uint8
    errors = [np.sqrt(np.mean((i.astype(float) - pixels) ** 2)) for i in images]
    assert errors[0] > 1 and errors[-1] > errors[0]
    if kind == "noise":
        assert errors == sorted(errors)
        assert (corruptions.corrupt(pixels, "1.2.4", kind, 3) != again).any()


def test_motion_is_the_weighted_mean_of_what_was_before():
    """Every step by itself: places between pixels interpolated, places outside on the edge."""
    image, angle = np.random.default_rng(2).random((9, 12)).astype(np.float32), 33
    weights = np.exp(-(np.arange(7) ** 2) / (2 * 2.0**2))
    want = np.zeros(image.shape)
    for step, weight in enumerate(weights / weights.sum()):
        for row in range(9):
            for column in range(12):
                y = min(max(row + step * np.sin(np.radians(angle)), 0), 8)
                x = min(max(column + step * np.cos(np.radians(angle)), 0), 11)
                top, left = min(int(y), 7), min(int(x), 10)
                fy, fx = y - top, x - left
                want[row, column] += weight * (
                    (1 - fy) * ((1 - fx) * image[top, left] + fx * image[top, left + 1])
                    + fy * ((1 - fx) * image[top + 1, left] + fx * image[top + 1, left + 1])
                )
    assert np.abs(corruptions.blur(image, 3, 2, angle) - want).max() < 1e-6


def test_motion_along_an_edge_leaves_it():
    rows = np.repeat(np.arange(64, dtype=np.float32)[:, None], 80, 1)
    assert np.abs(corruptions.blur(rows, 10, 3, 0) - rows).max() < 1e-4
    assert np.abs(corruptions.blur(rows, 10, 3, 45) - rows).max() > 1


def planted(n=240, labels=("A", "B"), shift=0.0):
    """Cases whose scores are good, and sets that hold the truth nine times of ten."""
    rng = np.random.default_rng(5)
    cases = [data.Case(f"p{i // 2}", "", None, rng.integers(0, 2, len(labels)) * 1.0, [])
             for i in range(n)]  # fmt: skip
    truth = np.stack([c.truth for c in cases])
    logit = 2 * truth - 1 + rng.normal(size=truth.shape) * (1 + shift)
    held = rng.random(truth.shape) < 0.9
    scores = data.Scores(logit, 1 / (1 + np.exp(-logit)), (truth == 1) == held,
                         (truth == 0) == held, np.ones(n, bool))  # fmt: skip
    return list(labels), cases, scores


def test_the_report_has_every_figure_and_picture(tmp_path):
    labels, cases, good = planted()
    _, _, bad = planted(shift=2)
    truth = measure.Truth(labels, cases, 100)
    noise = data.Condition("noise-1", "noise", 1)
    frozen = measure.thresholds(labels, cases, good)
    found = {"schema": "medfusion.evaluation/1", "manifest": "m.csv", "validation": "v.csv",
             "alpha": 0.1, "resamples": 100, "labels": labels, "cases": 240, "patients": 120,
             "bundles": {}}  # fmt: skip
    clean, arrays = measure.condition_figures(truth, good, data.CLEAN, frozen)
    noisy, noisy_arrays = measure.condition_figures(truth, bad, noise, frozen)
    drops = measure.with_holm({"noise-1 − clean": noisy_arrays["auroc"] - arrays["auroc"]})
    found["bundles"]["<a>"] = {"conditions": {"clean": clean, "noise-1": noisy}, "drops": drops}
    found["bundles"]["b"] = found["bundles"]["<a>"]
    found["differences"] = measure.with_holm({"<a> − b": arrays["auroc"] - arrays["auroc"]})
    report.write(found, tmp_path)
    kept = json.loads((tmp_path / "report.json").read_text())
    macro = kept["bundles"]["b"]["conditions"]["clean"]["macro"]
    assert set(macro) == set(report.SHOWN)
    assert macro["auroc"]["low"] < macro["auroc"]["value"] < macro["auroc"]["high"]
    assert macro["coverage_present"]["value"] == pytest.approx(0.9, abs=0.05)
    drop = kept["bundles"]["b"]["drops"]["noise-1 − clean"]
    assert drop["high"] < 0 and drop["p_holm"] < 0.05
    assert kept["differences"]["<a> − b"]["p_holm"] == 1
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 7 and "&lt;a&gt;" in page and "<a>" not in page
    assert "nan" not in page.lower()
    lines = (tmp_path / "figures.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * 3 * len(report.SHOWN)


def test_a_failed_case_counts_nowhere():
    labels, cases, scores = planted()
    results = [None] * len(cases)
    assert not data.scores(results, labels).ok.any()
    truth = measure.Truth(labels, cases, 20)
    scores.ok[:40] = False
    found, _ = measure.condition_figures(truth, scores, data.CLEAN, None)
    assert found["failed"] == 40 and found["labels"]["A"]["cases"] == 200


def test_quality_flags_are_counted_among_the_cases_that_ran():
    def result(*flags):
        p = {"label": "A", "logit": 0.0, "probability": 0.5, "prediction_set": []}
        return {"predictions": [p], "quality": {"flags": list(flags)}}

    scores = data.scores([result("blurred"), None, result("blurred", "noisy"), result()], ["A"])
    assert measure.flag_shares(scores) == {"blurred": pytest.approx(2 / 3), "noisy": pytest.approx(1 / 3)}
    assert measure.flag_shares(data.scores([None], ["A"])) == {}


def test_documents_are_found_indented_and_by_line():
    assert data.compact('{"a":1}\n{"b":2}\n') == ['{"a": 1}', '{"b": 2}']
    assert data.compact('{\n "a": [1,\n 2]\n}\n') == ['{"a": [1, 2]}']
    assert data.compact("") == []
