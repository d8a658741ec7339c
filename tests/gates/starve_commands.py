"""The command line as the gate `starve` tries it: a command with what it needs, and what may be said of a run with a fault."""
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import bad_input  # noqa: E402
import bundles  # noqa: E402

FRONTAL = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}
CORPUS = bundles.ROOT / "tests/fuzz/corpus"
VARIES = re.compile(rb'"(id|created|timing|ms|elapsed)[^"]*": ?("[^"]*"|\{[^}]*\}|[0-9.]+)|20\d\d-\d\d-\d\dT[0-9:.]+Z|/out\b\S*|\d+(\.\d+)?e?[-+]?\d* (ms|MB)')


@dataclasses.dataclass
class Command:
    arguments: list
    work: pathlib.Path
    makes: tuple = ()  # what is removed before each run
    same: bool = True  # whether its output is the same each time

    def run(self, environment, seconds=None):
        """Its status, output and errors; None: it hung."""
        for name in self.makes:
            path = self.work / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        try:
            done = subprocess.run([str(word) for word in self.arguments], cwd=self.work, env=environment, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return None
        return done.returncode, VARIES.sub(b"", done.stdout), done.stderr

    def judge(self, wanted, done):
        """What is wrong with a run; None: nothing."""
        if done is None:
            return "it hung"
        status, output, errors = done
        if status < 0:
            return None  # the table has it
        if status not in (0, 1, 2):
            return f"status {status}"
        if status == 0 and wanted[0] == 0 and self.same and output != wanted[1]:
            return f"another output: {output[-300:]!r}"
        if status and not errors.strip():
            return f"status {status} without a word"
        return None


def all_of(program, work):
    """(name, Command) of each."""
    model = bundles.make_bundle(work / "frontal", name="frontal", accepts=FRONTAL)
    (work / "secret").write_text("a secret of more than sixteen bytes\n")
    sample, newest, ehr = bad_input.SAMPLE, bad_input.NEWEST, bad_input.SAMPLE / "ehr.json"
    study = work / "study.zip"
    study.write_bytes(bad_input.zip_of([("a/image", newest.read_bytes()), ("note.txt", b"hello")]))
    subprocess.run([program, "vault", "add", work / "keys.json"], check=True, capture_output=True)
    subprocess.run([program, "key", "add", work / "api.json", "--name", "test", "--scopes", "jobs.read"], check=True, capture_output=True)
    commands = {
        "inspect": (["model", "inspect", model],),
        "verify": (["model", "verify", model],),
        "features": (["fhir", "features", "--model", model, "--format", "json", ehr],),
        "check": (["fhir", "check", model],),
        "info": (["dicom", "info", study],),
        "study": (["dicom", "study", sample],),
        "frame": (["dicom", "frame", newest, "-o", "out.png"], ("out.png",)),
        "frame-npy": (["dicom", "frame", newest, "--stage", "modality", "-o", "out.npy"], ("out.npy",)),
        "deidentify": (["dicom", "deidentify", "--secret", "secret", "-o", "out", newest], ("out",)),
        "vault-add": (["vault", "add", "new.json"], ("new.json",), False),
        "key-add": (["key", "add", "new-api.json", "--name", "n", "--scopes", "jobs.read"], ("new-api.json",), False),
        "key-list": (["key", "list", "api.json"],),
        "predict": (["predict", "--model", model, "--threads", "1", "--ehr", ehr, newest],),
        "predict-text": (["predict", "--model", model, "--threads", "1", "--format", "text", study], (), False),
        "predict-html": (["predict", "--model", model, "--threads", "1", "--format", "html", newest], (), False),
        "predict-pdf": (["predict", "--model", model, "--threads", "1", "--format", "pdf", "-o", "out.pdf", newest], ("out.pdf",), False),
        "predict-fhir": (["predict", "--model", model, "--threads", "1", "--format", "fhir", "--ehr", ehr, newest], (), False),
        "artifacts": (["predict", "--model", model, "--threads", "1", "--artifacts", "out", newest], ("out",)),
        "explain": (["predict", "--model", model, "--threads", "1", "--explain", "out", newest], ("out",)),
        "config": (["serve", "--help-config"],),
    }
    for name in ("codec_jpeg", "dicom_scan"):
        for path in sorted((CORPUS / name).glob("*.dcm"))[:4]:
            commands[f"frame-{path.stem}"] = (["dicom", "frame", path, "-o", "out.png"], ("out.png",))
    for name, (arguments, *rest) in commands.items():
        yield name, Command([program, *arguments], work, *rest)
