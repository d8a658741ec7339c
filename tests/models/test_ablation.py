"""models/ablation: seven bundles of one engine, figures over seeds, the table beside the paper's."""

import json
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")
pytest.importorskip("pydicom")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

from ablation import configurations, summary  # noqa: E402

SHIPPED = json.loads((ROOT / "models/thorax-nih/bundle.json").read_text())


def test_each_configuration_adds_to_the_one_before():
    assert [c.name for c in configurations.ALL] == [
        "vit", "seg-vit", "dinov2", "seg-dinov2", "transformer", "mamba", "full"
    ]  # fmt: skip
    assert [c.paper_auroc for c in configurations.ALL] == sorted(c.paper_auroc for c in configurations.ALL)
    assert configurations.ALL[-1].ehr and not any(c.ehr for c in configurations.ALL[:-1])


@pytest.mark.parametrize("configuration", configurations.ALL, ids=lambda c: c.name)
def test_its_bundle_json_is_one(configuration):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "models/bundle.schema.json").read_text())
    document = configurations.describe(SHIPPED, configuration, 2)
    jsonschema.Draft202012Validator(schema).validate(document)
    modules, directories = document["modules"], document["directories"]
    assert document["name"] == f"ablation-{configuration.name}-2"
    assert (modules["segmenter"] != "none") == ("segmenter" in directories) == configuration.segmented
    assert (modules["ehr"] != "none") == ("ehr" in directories) == configuration.ehr
    assert document["sequence"]["max_frames"] == (1 if modules["temporal"] == "none" else 32)
    assert SHIPPED["modules"]["temporal"] == "mamba" and "segmenter" in SHIPPED["directories"]


def arrays(value, rng):
    """A figure of one seed: its point estimate and 200 resamples about it."""
    return {name: np.r_[value, value + 0.02 * rng.standard_normal(200)] for name in summary.FIGURES}


def test_figures_are_means_over_seeds_with_the_seeds_beside_them():
    rng = np.random.default_rng(0)
    seeds = [arrays(value, rng) for value in (0.6, 0.7, 0.8)]
    found = summary.configuration_figures(seeds)["auroc"]
    assert found["value"] == pytest.approx(0.7) and found["seeds"] == pytest.approx([0.6, 0.7, 0.8])
    assert found["low"] < 0.7 < found["high"]
    assert summary.spread(found["seeds"]) == pytest.approx(0.1)
    assert np.isnan(summary.spread([0.5]))


def report_of(values):
    rng = np.random.default_rng(1)
    chosen = configurations.ALL
    clean = {c.name: [arrays(v, rng), arrays(v, rng)] for c, v in zip(chosen, values, strict=True)}
    found = {
        "options": {"seeds": 2, "vit_steps": 10, "upper_steps": 20, "width": 64},
        "train": 600, "cases": 140, "positives": 100, "width_of_interval": 0.1,
        "differences": summary.differences(chosen, clean),
        "configurations": {
            c.name: {"clean": summary.configuration_figures(clean[c.name]), "latency_ms": 12.3, "peak_mib": 90.0}
            | ({"newest-1": summary.configuration_figures([arrays(0.5, rng)])} if c.longest > 1 else {})
            for c in chosen
        },
    }  # fmt: skip
    return found


def test_the_table_has_a_row_a_configuration_beside_the_paper():
    found = report_of([0.60, 0.61, 0.62, 0.63, 0.64, 0.65, 0.9])
    text = summary.text(found, configurations.ALL)
    rows = [line for line in text.splitlines() if line.count("|") == len(summary.HEAD) + 1]
    assert len(rows) == 2 + 7
    (full,) = [r for r in rows if r.startswith("| full")]
    cells = [cell.strip() for cell in full.strip("|").split("|")]
    assert cells[1] == "0.936" and cells[2].startswith("0.900 (") and cells[4] == "0.889"
    assert cells[8] == "-0.400" and cells[9:] == ["12", "90"]
    (vit,) = [r for r in rows if r.startswith("| ViT ")]
    assert vit.split("|")[9].strip() == "–"  # it reads one study only


def test_differences_are_paired_and_adjusted():
    found = report_of([0.60, 0.60, 0.60, 0.60, 0.60, 0.60, 0.9])["differences"]
    assert len(found) == 7
    whole = found["full (+ EHR) − ViT"]
    assert whole["value"] == pytest.approx(0.3) and whole["low"] > 0.2 and whole["p_holm"] < 0.1
    assert found["Seg + ViT − ViT"]["p_holm"] > 0.2


def test_peak_memory_is_that_of_the_program_alone(tmp_path):
    from ablation import __main__ as command
    from evaluation import cases

    held = np.ones(30_000_000)  # 229 MiB of our own
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    case = cases.Case("p", "", None, np.zeros(1), [cases.Study("1.2", "", [tmp_path / "a.dcm"])])
    assert 0.5 < command.peak_mib(str(program), tmp_path, case) < 100 < held.nbytes / 2**20
    program.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    with pytest.raises(SystemExit, match="broken"):
        command.peak_mib(str(program), tmp_path, case)


def test_networks_have_the_modules_of_their_configuration(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("efficientnet_lite_pytorch")
    from ablation import train
    from medfusion import bundle as bundles
    from training import vision

    vit = vision.Student().vit.eval()
    for configuration in configurations.ALL:
        upper = train.upper_of(configuration, vit.config.hidden_size, 16).eval()
        series, ehr = torch.randn(2, 3, 17, vit.config.hidden_size), (
            torch.zeros(2, 1), torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool)
        )  # fmt: skip
        with torch.no_grad():
            logits = upper(series, ehr)
            changed = upper(torch.cat([series[:, :1] + 1, series[:, 1:]], 1), ehr)
        assert logits.shape == (2, 14)
        assert torch.equal(logits, changed) == (configuration.longest == 1)
        if configuration.segmented:
            continue
        model = train.assemble(configuration, 0, None, vit, upper)
        bundles.save_bundle(model, None, tmp_path / configuration.name)
        loaded = bundles.load_bundle(tmp_path / configuration.name)
        assert loaded.bundle["modules"]["segmenter"] == "none" and loaded.ehr is None
