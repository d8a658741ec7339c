"""deploy/helm and deploy/compose as they are shipped: Helm renders the chart, Kubernetes' schemas take every manifest, nothing has more
rights than it needs, names lead somewhere, and settings are keys that the program has."""
import json
import os
import pathlib
import re
import subprocess

import kubernetes_validate
import pytest
import yaml

import bundles
import helm

ROOT = pathlib.Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose"
RESOLVER = "proxy.resolver=10.96.0.10:53"
VARIANTS = {
    "as it is": [RESOLVER],
    "everything": [RESOLVER, "workers.gpu.enabled=true", "dicom.enabled=true", 'dicom.allow=["PACS","ORTHANC@10.0.0.9"]', "monitoring.enabled=true",
                   "models.existingClaim=models", 'networkPolicy.metrics=[{"namespaceSelector":{"matchLabels":{"name":"monitoring"}}}]',
                   'networkPolicy.database.to=[{"ipBlock":{"cidr":"10.0.0.0/8"}}]', 'networkPolicy.clients=[{"ipBlock":{"cidr":"10.0.0.0/8"}}]',
                   'networkPolicy.egress=[{"ports":[{"port":4242}],"to":[{"ipBlock":{"cidr":"10.0.0.9/32"}}]}]',
                   'image.pullSecrets=["registry"]', 'settings={"LOG_LEVEL":"warn"}'],
    "little": ["proxy.enabled=false", "networkPolicy.enabled=false", "workers.cpu.scale.enabled=false", "payloads.existingClaim=mine"],
}
OTHERS = {"keda.sh/v1alpha1", "monitoring.coreos.com/v1"}  # of operators: Kubernetes itself has no schema


@pytest.fixture(scope="module", params=VARIANTS)
def manifests(request):
    return helm.template(*VARIANTS[request.param])


@pytest.fixture(scope="module")
def everything():
    return helm.template(*VARIANTS["everything"])


@pytest.fixture(scope="module")
def keys():
    """MEDFUSION_SECTION_KEY of every key that the program has."""
    defaults = json.loads(subprocess.run([bundles.PROGRAM, "serve", "--example-config"], check=True, capture_output=True, text=True).stdout)
    return {f"MEDFUSION_{section}_{name}".upper() for section, members in defaults.items() for name in members}


def of(manifests, kind):
    return {doc["metadata"]["name"]: doc for doc in manifests if doc["kind"] == kind}


def pods(manifests):
    return {name: doc["spec"]["template"] for name, doc in of(manifests, "Deployment").items()}


def test_helm_finds_no_fault():
    done = helm.run("lint", "--strict", helm.CHART, "--set", RESOLVER)
    assert done.returncode == 0 and "0 chart(s) failed" in done.stdout and "[WARNING]" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1.27", "1.34"])
def test_kubernetes_takes_every_manifest(manifests, version):
    for doc in manifests:
        if doc["apiVersion"] not in OTHERS:
            kubernetes_validate.validate(doc, version, strict=True)
    names = [(doc["kind"], doc["metadata"]["name"]) for doc in manifests]
    assert len(names) == len(set(names)) > 5
    with pytest.raises(kubernetes_validate.ValidationError):  # and would not take anything
        wrong = json.loads(json.dumps(next(doc for doc in manifests if doc["kind"] == "Deployment")))
        wrong["spec"]["template"]["spec"]["containers"][0]["readOnlyRoot"] = True
        kubernetes_validate.validate(wrong, version, strict=True)


def test_pods_have_no_rights(manifests):
    assert pods(manifests)
    for name, pod in pods(manifests).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False and spec["serviceAccountName"] in of(manifests, "ServiceAccount")
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        for container in spec["containers"]:
            rights = container["securityContext"]
            assert rights == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
            assert ":" in container["image"] and not container["image"].endswith(":latest")


def test_secrets_are_referred_to_and_never_made(manifests):
    assert of(manifests, "Secret") == {}
    assert not re.search(r"postgres(ql)?://", yaml.safe_dump_all(manifests))


def test_names_lead_somewhere(manifests):
    secrets = set(yaml.safe_load((helm.CHART / "values.yaml").read_text())["secrets"].values())
    claims = set(of(manifests, "PersistentVolumeClaim")) | {"models", "mine"}
    for name, pod in pods(manifests).items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes), name
        for volume in volumes.values():
            sources = [volume] + [{"secret": {"secretName": s["secret"]["name"]}} for s in volume.get("projected", {}).get("sources", [])]
            for source in sources:
                assert source.get("secret", {}).get("secretName", "medfusion-keys") in secrets
                assert source.get("configMap", {}).get("name", "mf-medfusion") in of(manifests, "ConfigMap")
                assert source.get("persistentVolumeClaim", {}).get("claimName", "mine") in claims
    for scaled in of(manifests, "ScaledObject").values():
        assert scaled["spec"]["scaleTargetRef"]["name"] in of(manifests, "Deployment")
        assert "replicas" not in of(manifests, "Deployment")[scaled["spec"]["scaleTargetRef"]["name"]]["spec"]  # or both would set it
        for trigger in scaled["spec"]["triggers"]:
            assert trigger["authenticationRef"]["name"] in of(manifests, "TriggerAuthentication")
            assert set(trigger["metadata"]) == {"query", "targetQueryValue", "activationTargetQueryValue"}


def selects(selector, labels):
    expressions = all(labels.get(e["key"]) not in e["values"] for e in selector.get("matchExpressions", []) if e["operator"] == "NotIn")
    return expressions and all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def test_selectors_find_pods(manifests):
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests).items()}
    found = lambda selector: {name for name, own in labels.items() if selects(selector, own)}
    for name, doc in of(manifests, "Deployment").items():
        assert found(doc["spec"]["selector"]) == {name}
    for name, doc in of(manifests, "PodDisruptionBudget").items():
        assert found(doc["spec"]["selector"]) == {name}
    assert set(of(manifests, "PodDisruptionBudget")) == set(labels)
    for name, doc in of(manifests, "Service").items():
        (target,) = found({"matchLabels": doc["spec"]["selector"]})
        ports = {port["name"] for container in pods(manifests)[target]["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in doc["spec"]["ports"]} == ports
    for doc in of(manifests, "NetworkPolicy").values():
        assert found(doc["spec"]["podSelector"])


def test_nobody_connects_to_workers_and_only_the_proxy_to_fronts(everything):
    policies = list(of(everything, "NetworkPolicy").values())
    for name, pod in pods(everything).items():
        own = [p["spec"] for p in policies if selects(p["spec"]["podSelector"], pod["metadata"]["labels"])]
        assert {"Ingress", "Egress"} <= {kind for spec in own for kind in spec["policyTypes"]}, name
        coming = [rule for spec in own for rule in spec.get("ingress", [])]
        going = [rule for spec in own for rule in spec["egress"]] if all("egress" in spec for spec in own) else []
        ports = {port["port"] for rule in going for port in rule.get("ports", [])}
        if "worker" in name:
            assert coming == [] and ports == {53, 5432}
        elif "front" in name:
            assert ports == {53, 5432, 4242}
            assert [set(peer) for rule in coming for peer in rule["from"]] == [{"podSelector"}, {"namespaceSelector"}]
        else:
            assert ports == {53, 8080, 11112} and {port["port"] for rule in coming for port in rule["ports"]} == {8443, 11112}


def test_probes_ask_what_the_contract_has(everything):
    paths = yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"]
    (front,) = pods(everything)["mf-medfusion-front"]["spec"]["containers"]
    asked = {kind: front[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert set(asked.values()) <= set(paths)
    assert asked["readinessProbe"] == "/v2/health/accepting" and asked["livenessProbe"] == "/v2/health/live"
    assert asked["readinessProbe"] in (ROOT / "deploy/haproxy/haproxy.cfg").read_text()


def test_settings_are_keys(everything, keys):
    named = {variable["name"] for name, pod in pods(everything).items() if "proxy" not in name
             for container in pod["spec"]["containers"] for variable in container["env"]}
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    named |= {name for service, spec in compose["services"].items() if service in ("front", "worker", "gpu-worker") for name in spec["environment"]}
    assert {"MEDFUSION_WORKER_COUNT", "MEDFUSION_DIMSE_ALLOW", "MEDFUSION_LOG_LEVEL"} <= named <= keys
    config = json.loads((ROOT / "deploy/cluster/config.json").read_text())
    assert {f"MEDFUSION_{section}_{name}".upper() for section, members in config.items() for name in members} <= keys


@pytest.mark.parametrize("settings, message", [
    ([], "proxy.resolver: the address of the cluster's DNS"),
    ([RESOLVER, "dicom.enabled=true"], "dicom.allow: name the calling AE titles"),
    ([RESOLVER, "front.replica=3"], "additional properties 'replica' not allowed"),
    ([RESOLVER, "settings.logLevel=warn"], "logLevel"),
    ([RESOLVER, "workers.cpu.scale.jobsPerWorker=0"], "minimum"),
    ([RESOLVER, "terminationGracePeriodSeconds=5"], "minimum"),
])
def test_wrong_values_are_refused(settings, message):
    with pytest.raises(RuntimeError) as refused:
        helm.template(*settings)
    assert message in str(refused.value)


def test_the_configuration_is_one_file_everywhere(everything):
    config, proxy = ROOT / "deploy/cluster/config.json", ROOT / "deploy/haproxy"
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    assert "../cluster/config.json:/etc/medfusion/config.json:ro" in compose["services"]["front"]["volumes"]
    assert "../haproxy/haproxy.cfg:/etc/haproxy/haproxy.cfg:ro" in compose["services"]["proxy"]["volumes"]
    given = {name: text.strip() for doc in of(everything, "ConfigMap").values() for name, text in doc["data"].items()}
    assert given == {"config.json": config.read_text().strip(), "haproxy.cfg": (proxy / "haproxy.cfg").read_text().strip(),
                     "fronts.cfg": (proxy / "fronts-by-name.cfg").read_text().strip()}
    (alerts,) = of(everything, "PrometheusRule").values()
    assert alerts["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/medfusion.rules.yaml").read_text())


# --- compose ---

def merged(compose):
    """Services with what they take over (YAML's merge keys are resolved by the parser)."""
    return compose["services"]


def test_compose_names_what_is_there(tmp_path):
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    for name, service in merged(compose).items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (COMPOSE / source).exists() if source.startswith(".") else source in compose["volumes"], (name, volume)
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in compose["secrets"]
        assert set(service.get("networks", [])) <= set(compose["networks"])
        assert set(service.get("depends_on", [])) <= set(compose["services"])
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"], name
        assert service["mem_limit"] and service["pids_limit"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert "postgres" not in {s for s, service in merged(compose).items() if "edge" in service["networks"]}
    orthanc = json.loads((COMPOSE / "orthanc.json").read_text())
    assert orthanc["DicomModalities"]["medfusion"][1] in compose["services"]


def test_prepare_makes_every_secret_once(tmp_path):
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    wanted = {pathlib.Path(secret["file"]).name for secret in compose["secrets"].values()}
    secrets = tmp_path / "secrets"
    environment = os.environ | {"MEDFUSION": str(bundles.PROGRAM)}
    first = subprocess.run([COMPOSE / "prepare", secrets], env=environment, capture_output=True, text=True, timeout=120)
    assert first.returncode == 0, first.stderr
    made = {file.name: file.read_bytes() for file in secrets.iterdir()}
    assert set(made) - {"keys.json.lock"} == wanted and secrets.stat().st_mode & 0o077 == 0
    assert len(made["token.key"]) == 32 and b"PRIVATE KEY" in made["certificate.pem"]
    assert made["postgres_password"].strip() in made["database"]
    again = subprocess.run([COMPOSE / "prepare", secrets], env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and again.stdout == "", again.stderr
    assert {file.name: file.read_bytes() for file in secrets.iterdir()} == made
    without = subprocess.run([COMPOSE / "prepare", tmp_path / "other"], env=os.environ | {"MEDFUSION": "no-such-program"},
                             capture_output=True, text=True, timeout=120)
    assert without.returncode == 1 and "there is no no-such-program" in without.stderr
