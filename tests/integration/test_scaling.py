"""deploy/scaling.py: its queue is what theory says a queue is, and deploy/SCALING.md has its figures."""
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "deploy/scaling.py"


@pytest.fixture(scope="module")
def scaling():
    spec = importlib.util.spec_from_file_location("scaling", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["scaling"] = module
    spec.loader.exec_module(module)
    return module


def test_the_document_has_the_figures_of_the_script(scaling):
    text = (ROOT / "deploy/SCALING.md").read_text()
    shown = text.split(scaling.BEGIN)[1].split(scaling.END)[0].strip()
    assert shown == scaling.tables(scaling.read_options([])).strip()


def test_measured_figures_are_those_of_the_results(scaling):
    results = (ROOT / "tests/bench/RESULTS.md").read_text()
    options = scaling.read_options([])
    assert f"{1000 / options.host_ms:.2f}" in re.findall(r"studies/s, 2 clients \(median\) +\| +([\d.]+)", results)
    assert f"| {options.database_jobs:g} |" in results


def test_a_queue_of_one_worker_waits_as_theory_says(scaling):
    """M/D/1 at half load: half a service time in the mean, besides the service itself."""
    options = scaling.read_options(["--spread", "1e-9", "--database-jobs", "1e9", "--events", "200000"])
    fleet = scaling.Fleet("one", 1, 0.1, 1)
    taken = scaling.times_to_result(5, fleet, scaling.read_options(["--spread", "1e-9", "--database-jobs", "1e9", "--events", "20000"]))
    assert sum(taken) / len(taken) == pytest.approx(0.15, rel=0.05)
    assert min(taken) >= 0.1
    assert scaling.capacity(fleet, options) == pytest.approx(10, rel=0.03)  # an hour forgives 1 % too many


def test_the_database_is_a_limit_that_shards_move(scaling):
    options = scaling.read_options(["--database-jobs", "50", "--events", "4000"])
    many = scaling.Fleet("many", 100, 0.1, 1)
    assert scaling.limited_by(many, options) == "database"
    assert scaling.capacity(many, options) == pytest.approx(50, rel=0.05)
    sharded = scaling.Fleet("many", 100, 0.1, 1, shards=25)
    assert scaling.limited_by(sharded, options) == "workers"
    assert scaling.capacity(sharded, options) == pytest.approx(1000 / 1.021, rel=0.1)  # the mean of the lognormal times


def test_a_fleet_that_is_too_large_to_simulate_singly_carries_no_less_by_more_than_a_little(scaling):
    fine, coarse = (scaling.read_options(["--database-jobs", "1e9", "--events", events]) for events in ("40000", "4000"))
    fleet = scaling.Fleet("some", 20, 1, 1)
    assert scaling.capacity(fleet, coarse) == pytest.approx(scaling.capacity(fleet, fine), rel=0.06)


def test_a_wrong_option_is_refused():
    done = subprocess.run([sys.executable, SCRIPT, "--gpu-ms", "0"], capture_output=True, text=True)
    assert done.returncode == 2 and "--gpu-ms must be more than 0" in done.stderr
