"""What the thorax-nih bundle says about itself: bundle.json and features.json."""

from __future__ import annotations

from medfusion.segmenter import SEGMENTATION

from . import data, fusion

SNOMED, RADLEX = "http://snomed.info/sct", "http://www.radlex.org"
# display, SNOMED CT (code, term), RadLex (code, term); an unverified coding is left out
CODINGS = {
    "Atelectasis": ("Atelectasis", ("46621007", "Atelectasis"), ("RID28493", "atelectasis")),
    "Cardiomegaly": ("Cardiomegaly", ("8186001", "Cardiomegaly"), None),
    "Effusion": (
        "Pleural effusion",
        ("60046008", "Pleural effusion"),
        ("RID34539", "pleural effusion"),
    ),
    "Infiltration": ("Infiltration", ("409609008", "Radiologic infiltrate of lung"), None),
    "Mass": ("Mass", ("309529002", "Lung mass"), ("RID39056", "lung mass")),
    "Nodule": (
        "Nodule",
        ("427359005", "Solitary nodule of lung"),
        ("RID50149", "pulmonary nodule"),
    ),
    "Pneumonia": ("Pneumonia", ("233604007", "Pneumonia"), ("RID5350", "pneumonia")),
    "Pneumothorax": ("Pneumothorax", ("36118008", "Pneumothorax"), ("RID5352", "pneumothorax")),
    "Consolidation": (
        "Consolidation",
        ("95436008", "Lung consolidation"),
        ("RID43255", "consolidation"),
    ),
    "Edema": ("Pulmonary oedema", ("19242006", "Pulmonary edema"), ("RID4866", "pulmonary edema")),
    "Emphysema": (
        "Emphysema",
        ("87433001", "Pulmonary emphysema"),
        ("RID4799", "pulmonary emphysema"),
    ),
    "Fibrosis": ("Fibrosis", ("51615001", "Fibrosis of lung"), None),
    "Pleural_Thickening": ("Pleural thickening", None, None),
    "Hernia": ("Hernia", ("39839004", "Diaphragmatic hernia"), None),
}


def label(name: str) -> dict:
    display, snomed, radlex = CODINGS[name]
    pairs = [(SNOMED, snomed), (RADLEX, radlex)]
    return {
        "id": name,
        "display": display,
        "coding": [{"system": system, "code": c[0], "display": c[1]} for system, c in pairs if c],
    }


def bundle(version: str, segmenter: dict, vision: dict, ehr: bool = True) -> dict:
    """`segmenter` and `vision`: size, mean, std of their inputs."""
    names = ["segmenter", "vision", "temporal", "ehr", "fusion"]
    return {
        "schema": "medfusion.bundle/1",
        "name": "thorax-nih",
        "version": version,
        "licence": "Apache-2.0; trained on NIH ChestX-ray14 (NIH Clinical Center, unrestricted use "
        "with attribution), the Hannover COVID-19 image repository (CC BY 3.0) and V7 Labs lung "
        "masks",
        "intended_use": "Research and integration tests on frontal chest radiographs of adults. "
        "Trained on 633 images with text-mined labels; not a medical device, not for diagnosis.",
        "accepts": {
            "modalities": ["CR", "DX"],
            "views": ["PA", "AP"],
            "body_parts": ["CHEST", "THORAX", "LUNG"],
            "require": [],
        },
        "labels": [label(name) for name in data.LABELS],
        "modules": {
            "segmenter": "sam2",
            "vision": "dinov2",
            "temporal": "mamba",
            "ehr": "ft_transformer" if ehr else "none",
        },
        "directories": {name: name for name in names if ehr or name != "ehr"},
        "preprocessing": {
            "equalisation": "none",
            "segmenter": segmenter,
            "vision": vision,
            "voxel_spacing_mm": None,
        },
        "segmentation": SEGMENTATION,
        "regions": 4,
        "sequence": {"max_frames": fusion.MAX_FRAMES, "position": "rank"},
    }


FEATURES = {
    "schema": "medfusion.features/1",
    "features": [
        {
            "id": "age",
            "display": "Age",
            "kind": "numeric",
            "unit": "a",
            "conversions": {"mo": 0.0833333, "wk": 0.0191650, "d": 0.00273785},
            "sources": ["fhir:Patient.birthDate", "dicom:PatientAge", "dicom:PatientBirthDate"],
            "pick": "last",
            "window": None,
            "range": [0, 120],
            "mean": fusion.AGE_MEAN,
            "std": fusion.AGE_STD,
        },
        {
            "id": "sex",
            "display": "Sex",
            "kind": "categorical",
            "sources": ["fhir:Patient.gender", "dicom:PatientSex"],
            "categories": fusion.SEXES,
            "map": {"F": "female", "M": "male"},
        },
        {
            "id": "view",
            "display": "View",
            "kind": "categorical",
            "sources": ["dicom:ViewPosition"],
            "categories": fusion.VIEWS,
            "map": {},
        },
    ],
}
