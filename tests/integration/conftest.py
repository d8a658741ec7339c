"""What the integration tests share: one daemon with a tiny frontal-only bundle, the results of the sample, a browser."""
import pydicom
import pytest

import artifact_study
import bundles
import chromium
import daemon as daemons

FRONTAL = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}


@pytest.fixture(scope="session")
def frontal_bundle(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bundle") / "frontal"
    return bundles.make_bundle(directory, name="frontal", accepts=FRONTAL)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory, frontal_bundle):
    running = daemons.Daemon(tmp_path_factory.mktemp("daemon"), frontal_bundle).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """The studies of the sample patient with their DICOM objects."""
    images = [pydicom.dcmread(f) for f in artifact_study.SAMPLE]
    return list(artifact_study.predict(tmp_path_factory.mktemp("artifacts") / "sample", images).values())


@pytest.fixture(scope="module")
def browser():
    with chromium.opened() as running:
        yield running


@pytest.fixture
def page(browser, server):
    """A page of the module's fixture `server`: see chromium.quiet_page()."""
    with chromium.quiet_page(browser, server) as quiet:
        yield quiet
