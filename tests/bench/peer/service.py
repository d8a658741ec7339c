"""The service one would otherwise write: FastAPI + pydicom + the PyTorch reference network. A peer to measure against, not a product.

It is given every advantage that costs a few lines: one process, the model warmed up, inference mode, the same number of threads, decoding and network
in the request's own thread, no queue and nothing written to disk.

    python service.py BUNDLE THREADS        prints its address, then serves POST /predict (parts dicom…, ehr)
"""

import datetime
import io
import json
import pathlib
import socket
import sys
import time

import numpy as np
import pydicom
import torch
import uvicorn
from fastapi import FastAPI, File, UploadFile
from pydicom.pixels import apply_modality_lut, apply_voi_lut

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "models"))
from medfusion.bundle import load_bundle, read_json  # noqa: E402
from medfusion.network import Ehr  # noqa: E402


def frame_of(dataset):
    """(rows, columns) float32 in [0, 1]: window, else percentiles (DESIGN.md, "The network", 1)."""
    modality = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float32)
    if "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        shown = apply_voi_lut(modality, dataset).astype(np.float32)
        low, high = 0.0, float(2 ** dataset.BitsStored - 1)
    else:
        shown, (low, high) = modality, np.percentile(modality, [0.5, 99.5])
    grey = np.clip((shown - low) / max(high - low, 1e-6), 0, 1)
    return torch.from_numpy(1 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey)


class Service:
    """The bundle, and what turns a request into its answer."""

    def __init__(self, folder, threads):
        torch.set_num_threads(threads)
        self.model = load_bundle(folder)
        self.labels = [label["id"] for label in self.model.bundle["labels"]]
        self.features = read_json(folder / "ehr" / "features.json")["features"]
        calibration = folder / "calibration.json"
        self.calibration = read_json(calibration) if calibration.exists() else None
        self.times = {}
        self.instrument()

    def instrument(self):
        """Adds the time of every call of a module to its stage."""
        def timed(stage, call):
            def wrapper(*arguments, **options):
                begin = time.perf_counter()
                result = call(*arguments, **options)
                self.times[stage] = self.times.get(stage, 0.0) + 1000 * (time.perf_counter() - begin)
                return result
            return wrapper

        for stage, module in (("vision", self.model.vision), ("temporal", self.model.temporal), ("ehr", self.model.ehr)):
            if module is not None:
                module.forward = timed(stage, module.forward)
        self.model.regions = timed("segment", self.model.regions)
        self.model.fusion.fuse = timed("fusion", self.model.fusion.fuse)
        self.model.fusion.head.forward = timed("fusion", self.model.fusion.head.forward)

    def ehr_of(self, patient, dataset):
        """Age, sex and view as the network takes them."""
        values = {"view": getattr(dataset, "ViewPosition", None), "sex": {"M": "male", "F": "female"}.get(getattr(dataset, "PatientSex", ""))}
        born = None
        if patient is not None:
            values["sex"] = patient.get("gender", values["sex"])
            born = patient.get("birthDate")
        if born:
            at, birth = datetime.datetime.strptime(dataset.StudyDate, "%Y%m%d").date(), datetime.date.fromisoformat(born)
            values["age"] = at.year - birth.year - ((at.month, at.day) < (birth.month, birth.day))
        numeric, categorical, missing = [], [], []
        for feature in self.features:
            value = values.get(feature["id"])
            if feature["kind"] == "numeric":
                numeric.append(0.0 if value is None else (value - feature["mean"]) / feature["std"])
            else:
                value = feature.get("map", {}).get(value, value)
                value = feature["categories"].index(value) if value in feature["categories"] else None
                categorical.append(value or 0)
            missing.append(value is None)
        return Ehr(torch.tensor(numeric), torch.tensor(categorical, dtype=torch.long), torch.tensor(missing))

    def predict(self, files, ehr):
        begin = time.perf_counter()
        datasets = sorted((pydicom.dcmread(io.BytesIO(data)) for data in files), key=lambda d: (d.StudyDate, d.get("StudyTime", ""), d.StudyInstanceUID))
        frames = [frame_of(dataset) for dataset in datasets]
        bundle = json.loads(ehr) if ehr else {"entry": []}
        patient = next((e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient"), None)
        decoded = time.perf_counter()
        self.times = {}
        logits = self.model(frames, self.ehr_of(patient, datasets[-1])).logits
        end = time.perf_counter()
        stages = {"decode": 1000 * (decoded - begin), **self.times}
        stages["vision"] += 1000 * (end - decoded) - sum(self.times.values())  # cropping and stretching for it, as in medfusion's own figures
        return {"predictions": [{"label": name, "logit": float(z), "probability": float(torch.sigmoid(z))} for name, z in zip(self.labels, logits)],
                "timing_ms": {**stages, "total": 1000 * (end - begin)}}


def make_app(service):
    app = FastAPI()

    @app.get("/v2/health/ready")
    def ready():
        return {}

    @app.post("/predict")
    def predict(dicom: list[UploadFile] = File(...), ehr: UploadFile = File(None)):
        return service.predict([part.file.read() for part in dicom], ehr.file.read() if ehr else None)

    return app


def main():
    service = Service(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
    with torch.inference_mode():
        service.model([torch.rand(512, 512)])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(make_app(service), log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main()
