"""Rules of FHIR R4 that neither the JSON schema nor fhir.resources checks, for every resource that MedFusion writes: invariants of the
specification (their keys stand in the messages), codes of bindings and displays, and whether references resolve.

`mistakes(resource, served=None)` is a list of sentences. `served(reference)` says whether a relative reference can be read where the
resource came from; without it only references inside the Bundle are followed.
"""

import functools
import gzip
import importlib
import json
import re
from pathlib import Path
from xml.etree import ElementTree

from jsonschema import Draft7Validator

SCHEMA = Path(__file__).resolve().parents[3] / "shared" / "data" / "fhir" / "fhir.schema.r4b.json.gz"

XHTML = "{http://www.w3.org/1999/xhtml}"
# txt-1: what of HTML a narrative may hold (of it, what we use)
NARRATIVE = {XHTML + name for name in ("div", "table", "tr", "th", "td", "p", "b", "i", "br", "span")}

TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
# Code systems as published; every coding of one of them must be here, with its display.
CODES = {
    TERMINOLOGY + "v2-0074": {"RAD": "Radiology"},
    TERMINOLOGY + "v2-0203": {"ACSN": "Accession ID"},
    TERMINOLOGY + "observation-category": {"imaging": "Imaging"},
    TERMINOLOGY + "data-absent-reason": {"unknown": "Unknown"},
    TERMINOLOGY + "v3-ObservationInterpretation": {"POS": "Positive", "NEG": "Negative", "IND": "Indeterminate"},
    TERMINOLOGY + "v3-DataOperation": {"CREATE": "create"},
    TERMINOLOGY + "restful-security-service": {"SMART-on-FHIR": "SMART-on-FHIR"},
    TERMINOLOGY + "provenance-participant-type": {"assembler": "Assembler"},
    "http://loinc.org": {"18748-4": "Diagnostic imaging study"},
}
# element → code system of its binding (required or extensible), where the resource has it
BINDINGS = {
    ("Observation", "interpretation"): TERMINOLOGY + "v3-ObservationInterpretation",
    ("Observation", "dataAbsentReason"): TERMINOLOGY + "data-absent-reason",
    ("Observation", "category"): TERMINOLOGY + "observation-category",
    ("DiagnosticReport", "category"): TERMINOLOGY + "v2-0074",
    ("Provenance", "activity"): TERMINOLOGY + "v3-DataOperation",
}
# element → types that its reference may have; a reference elsewhere may be of any
TARGETS = {
    ("Observation", "subject"): {"Patient"}, ("Observation", "device"): {"Device"}, ("Observation", "derivedFrom"): {"ImagingStudy", "Observation"},
    ("DiagnosticReport", "subject"): {"Patient"}, ("DiagnosticReport", "result"): {"Observation"},
    ("DiagnosticReport", "imagingStudy"): {"ImagingStudy"}, ("DiagnosticReport", "basedOn"): {"ServiceRequest"},
    ("RiskAssessment", "subject"): {"Patient"}, ("RiskAssessment", "performer"): {"Device"},
}
REQUEST_TYPES = {"batch", "transaction", "history"}


def validated(resource):
    """The resource, read by fhir.resources' R4B models."""
    kind = resource["resourceType"]
    getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind).model_validate_json(json.dumps(resource))
    return resource


@functools.cache
def official(kind):
    """The validator of one type by the official JSON schema; None where ../shared/data is not there."""
    if not SCHEMA.exists():
        return None
    return Draft7Validator({"$ref": f"#/definitions/{kind}", "definitions": json.loads(gzip.decompress(SCHEMA.read_bytes()))["definitions"]})


def schema_errors(resource):
    validator = official(resource["resourceType"])
    errors = validator.iter_errors(resource) if validator else []
    return [f"{e.json_path}: {e.message[:200]}" for e in errors if e.json_path != "$.fhirVersion"]  # its list of versions ends before R4


def walk(value, path):
    """Every object below, with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, member in value.items():
            yield from walk(member, f"{path}.{key}")
    elif isinstance(value, list):
        for i, member in enumerate(value):
            yield from walk(member, f"{path}[{i}]")


def as_list(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def of_any_element(resource):
    for path, element in walk(resource, resource["resourceType"]):
        for key, value in element.items():
            if value in ("", [], {}) or value is None:
                yield f"{path}.{key}: ele-1, it is empty"
            if isinstance(value, str) and value != value.strip() and key != "div":
                yield f"{path}.{key}: a string begins or ends with a space"
        if {"code", "system", "value"} & element.keys() and "valueQuantity" not in element:
            if path.endswith("Quantity") and "code" in element and "system" not in element:
                yield f"{path}: qty-3, a code without its system"
        if "start" in element and "end" in element and str(element["start"]) > str(element["end"]):
            yield f"{path}: per-1, it ends before it begins"
        system, code = element.get("system"), element.get("code")
        if system in CODES and code is not None and CODES[system].get(code) != element.get("display"):
            yield f"{path}: {code} is not a code of {system} with display {element.get('display')}"
        if "coding" in element and not all({"system", "code"} <= coding.keys() for coding in element["coding"]):
            yield f"{path}: a coding without system or code"


def of_the_narrative(resource):
    if "text" not in resource:
        return
    root = ElementTree.fromstring(resource["text"]["div"])
    if root.tag != XHTML + "div" or not {e.tag for e in root.iter()} <= NARRATIVE or any(e.attrib for e in root.iter()):
        yield "text.div: txt-1, markup that a narrative may not hold"
    if not "".join(root.itertext()).strip():
        yield "text.div: txt-2, there is nothing in it"


def of_bindings(resource):
    for (kind, name), system in BINDINGS.items():
        for concept in as_list(resource.get(name)) if resource["resourceType"] == kind else []:
            if system not in [coding["system"] for coding in concept["coding"]]:
                yield f"{kind}.{name}: no code of {system}"


def of_its_type(resource):
    kind = resource["resourceType"]
    if kind == "Observation":
        valued = any(key.startswith("value") for key in resource)
        if valued and "dataAbsentReason" in resource:
            yield "Observation: obs-6, a value and a reason why there is none"
        own = {(c.get("system"), c.get("code")) for c in resource["code"].get("coding", [])}
        parts = {(c["system"], c["code"]) for p in resource.get("component", []) for c in p["code"]["coding"]}
        if valued and own & parts:
            yield "Observation: obs-7, a component has the code of the whole"
    if kind == "RiskAssessment":
        for prediction in resource["prediction"]:
            if not 0 <= prediction.get("probabilityDecimal", 0) <= 1:
                yield "RiskAssessment: ras-2, a probability that is none"
    if kind == "Device" and not all(name["type"] == "model-name" for name in resource["deviceName"]):
        yield "Device.deviceName: not the name of a model"
    if kind == "CapabilityStatement":
        yield from of_capabilities(resource)


def of_capabilities(statement):
    if not statement.get("rest"):
        yield "CapabilityStatement: cpb-1, no endpoint"
    if not {"description", "software", "implementation"} & statement.keys():
        yield "CapabilityStatement: cpb-2, nothing that says what it is"
    if statement["kind"] == "instance" and "implementation" not in statement:
        yield "CapabilityStatement: cpb-14, an instance without its implementation"
    for rest in statement["rest"]:
        types = [r["type"] for r in rest["resource"]]
        if len(types) != len(set(types)):
            yield "CapabilityStatement.rest: cpb-9, a type twice"
        for resource in rest["resource"]:
            names = [p["name"] for p in resource.get("searchParam", [])]
            if len(names) != len(set(names)):
                yield f"CapabilityStatement.rest.{resource['type']}: cpb-12, a parameter twice"
            if bool(names) != ("search-type" in [i["code"] for i in resource["interaction"]]):
                yield f"CapabilityStatement.rest.{resource['type']}: parameters without a search, or none for it"


def of_the_bundle(bundle):
    entries, kind = bundle.get("entry", []), bundle["type"]
    if "total" in bundle and kind not in ("searchset", "history"):
        yield "Bundle: bdl-1, a total"
    urls = [entry["fullUrl"] for entry in entries]
    if len(urls) != len(set(urls)):
        yield "Bundle: bdl-7, a fullUrl twice"
    for i, entry in enumerate(entries):
        if ("search" in entry) != (kind == "searchset"):
            yield f"Bundle.entry[{i}]: bdl-2, search"
        if ("request" in entry) != (kind in REQUEST_TYPES):
            yield f"Bundle.entry[{i}]: bdl-3, request"
        if "/_history/" in entry["fullUrl"]:
            yield f"Bundle.entry[{i}]: bdl-8, a fullUrl with a version"
        if not re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", entry["resource"]["id"]):
            yield f"Bundle.entry[{i}]: no id"
        if entry.get("request", {}).get("method") == "PUT" and entry["request"]["url"] != f"{entry['resource']['resourceType']}/{entry['resource']['id']}":
            yield f"Bundle.entry[{i}]: put under another name than its own"


def of_references(resource, known, served):
    """`known`: fullUrl and Type/id of the resources beside it → their type."""
    kind = resource["resourceType"]
    for path, element in walk(resource, kind):
        name = path.removeprefix(kind + ".").split("[")[0].split(".")[0]
        literal = element.get("reference")
        if not isinstance(literal, str):
            continue
        target = known.get(literal) or (literal.split("/")[0] if "/" in literal else None)
        if literal.startswith("urn:") and literal not in known:
            yield f"{path}: {literal} is not in the Bundle"
        elif literal not in known and served and not served(literal):
            yield f"{path}: {literal} cannot be read"
        if target not in TARGETS.get((kind, name), {target}):
            yield f"{path}: refers to a {target}"
    for (owner, name), types in TARGETS.items():
        for element in as_list(resource.get(name)) if kind == owner else []:
            if not {"reference", "identifier", "display"} & element.keys():
                yield f"{kind}.{name}: a reference to nothing"
            if element.get("type", next(iter(types))) not in types:
                yield f"{kind}.{name}: refers to a {element['type']}"


def mistakes(resource, served=None):
    whole = resource["resourceType"] == "Bundle"
    entries = resource.get("entry", []) if whole else []
    known = {}
    for entry in entries:
        inner = entry["resource"]
        known |= {entry["fullUrl"]: inner["resourceType"], f"{inner['resourceType']}/{inner['id']}": inner["resourceType"]}
    found = list(of_the_bundle(resource)) if whole else []
    for inner in [entry["resource"] for entry in entries] if whole else [resource]:
        for rule in (of_any_element, of_the_narrative, of_bindings, of_its_type):
            found += rule(inner)
        found += of_references(inner, known, served)
    return found
