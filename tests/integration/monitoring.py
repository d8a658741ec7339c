"""What deploy/ asks Prometheus for: expressions of the alerts and of the dashboard, and the metrics in them."""
import json
import pathlib
import re

import yaml

DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
STANDALONE = "medfusion_standalone_"  # exported only while such workers are known


def alerts():
    return [rule for group in yaml.safe_load((DEPLOY / "prometheus/medfusion.rules.yaml").read_text())["groups"] for rule in group["rules"]]


def shown():
    return [target["expr"] for panel in json.loads((DEPLOY / "grafana/medfusion.json").read_text())["panels"] for target in panel["targets"]]


def asked():
    """Names of all metrics that alerts or dashboard use."""
    texts = [rule["expr"] for rule in alerts()] + shown()
    return {re.sub(r"_(sum|count|bucket)$", "", name) for text in texts for name in re.findall(r"medfusion_\w+", text)}


def exported(metrics):
    """Names of the metrics in an answer of /metrics."""
    return set(re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE))
