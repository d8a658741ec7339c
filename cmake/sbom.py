#!/usr/bin/env python3
"""The software bill of materials of a build (CycloneDX 1.5, JSON): what the programs load, by package, and the models that are shipped.

usage: sbom.py OUTPUT VERSION PROGRAM… [--model BUNDLE…]

Has what FDA's guidance on section 524B and NTIA's minimum elements ask for: supplier, name, version, purl, hash, what depends on what, author,
time (SOURCE_DATE_EPOCH, if that is set).
"""
import datetime
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse
import uuid

ORIGIN, DEVELOPERS = "medfusion", "The MedFusion developers"


def output(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout


@functools.cache
def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def libraries(program):
    """Name as it is asked for → the file that is loaded."""
    return dict(re.findall(r"^\s*(\S+) => (/\S+)", output("ldd", program), re.M))


@functools.cache
def needed(path):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", path))


def names_of(path):
    """/lib may be a link to /usr/lib, and dpkg knows one of the two names."""
    real = os.path.realpath(path)
    return (path, real, real.removeprefix("/usr"), "/usr" + path)


def packages_of(paths):
    """The installed package of each file that belongs to one."""
    asked = sorted({name for path in paths for name in names_of(path)})
    found = subprocess.run(["dpkg-query", "-S", *asked], capture_output=True, text=True).stdout  # it fails for the names that it does not know
    owner = {name: package.split(",")[0] for package, name in re.findall(r"^(\S[^:]*(?::\w+)?(?:, [^:]*(?::\w+)?)*): (/.*)$", found, re.M)}
    return {path: owner[name] for path in paths for name in names_of(path) if name in owner}


@functools.cache
def distribution():
    release = dict(line.split("=", 1) for line in pathlib.Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return release.get("ID", "debian").strip('"'), release.get("VERSION_ID", "").strip('"')


def describe(packages):
    """Name, version, architecture, maintainer and source of each package."""
    rows = output("dpkg-query", "-W", "-f", "${binary:Package}\t${Package}\t${Version}\t${Architecture}\t${Maintainer}\t${source:Package}\n", *packages)
    return {full: rest for full, *rest in (row.split("\t") for row in rows.splitlines())}


def package_component(description, files):
    name, version, architecture, maintainer, source = description
    system, release = distribution()
    purl = f"pkg:deb/{system}/{name}@{urllib.parse.quote(version, safe='.~-')}?arch={architecture}&distro={system}-{release}"
    return {"type": "library", "bom-ref": purl, "supplier": {"name": maintainer}, "name": name, "version": version, "purl": purl,
            "properties": [{"name": f"{ORIGIN}:source-package", "value": source},
                           *({"name": f"{ORIGIN}:file", "value": f"{pathlib.Path(f).name} sha256:{sha256(os.path.realpath(f))}"} for f in sorted(files))]}


def file_component(path):
    """A library of no package."""
    return {"type": "library", "bom-ref": f"file:{pathlib.Path(path).name}", "supplier": {"name": "unknown"}, "name": pathlib.Path(path).name,
            "version": "unknown", "hashes": [{"alg": "SHA-256", "content": sha256(path)}]}


def program_component(path, version):
    """Told by its build id, which stripping and installing leave as it is."""
    name = pathlib.Path(path).name
    return {"type": "application", "bom-ref": f"program:{name}", "supplier": {"name": DEVELOPERS}, "name": name, "version": version,
            "properties": [{"name": f"{ORIGIN}:build-id", "value": build} for build in re.findall(r"Build ID: (\w+)", output("readelf", "-n", path))]}


def model_component(directory):
    bundle = json.loads((pathlib.Path(directory) / "bundle.json").read_text())
    return {"type": "machine-learning-model", "bom-ref": f"model:{bundle['name']}", "supplier": {"name": DEVELOPERS}, "name": bundle["name"],
            "version": bundle["version"], "description": bundle["intended_use"],
            "hashes": [{"alg": "SHA-256", "content": sha256(pathlib.Path(directory) / "manifest.json")}]}


def collect(programs, version):
    """Components, and which depends directly on which (by bom-ref)."""
    files = {name: path for program in programs for name, path in libraries(program).items()}
    owner, packages = packages_of(files.values()), {}
    for path in files.values():
        packages.setdefault(owner.get(path, path), set()).add(path)
    descriptions = describe(sorted(set(owner.values())))
    reference, components = {}, []
    for package, paths in sorted(packages.items()):
        component = package_component(descriptions[package], paths) if package in descriptions else file_component(package)
        components.append(component)
        reference.update({path: component["bom-ref"] for path in paths})
    depends = {c["bom-ref"]: set() for c in components}
    for name, path in files.items():
        depends[reference[path]] |= {reference[files[n]] for n in needed(path) if n in files} - {reference[path]}
    for program in programs:
        component = program_component(program, version)
        components.append(component)
        depends[component["bom-ref"]] = {reference[files[n]] for n in needed(program) if n in files}
    return components, depends


def main(arguments):
    if len(arguments) < 3:
        sys.exit(__doc__)
    target, version, rest = arguments[0], arguments[1], arguments[2:]
    split = rest.index("--model") if "--model" in rest else len(rest)
    programs, models = rest[:split], rest[split + 1:]
    components, depends = collect(programs, version)
    components += [model_component(m) for m in models]
    own = [c["bom-ref"] for c in components if c["type"] != "library"]
    content = json.dumps([components, sorted(depends)], sort_keys=True)
    moment = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", datetime.datetime.now().timestamp())), datetime.timezone.utc)
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}", "version": 1,
        "metadata": {"timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "authors": [{"name": DEVELOPERS}],
                     "tools": {"components": [{"type": "application", "name": "sbom.py", "version": version}]},
                     "component": {"type": "application", "bom-ref": ORIGIN, "supplier": {"name": DEVELOPERS}, "name": ORIGIN, "version": version}},
        "components": components,
        "dependencies": [{"ref": ORIGIN, "dependsOn": own}, *({"ref": ref, "dependsOn": sorted(on)} for ref, on in sorted(depends.items()))]}
    pathlib.Path(target).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
