#!/usr/bin/env python3
"""Writes server/openapi.json from openapi.yaml; with --check only says whether they agree."""
import json
import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main() -> int:
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    text = json.dumps(contract, ensure_ascii=False, separators=(",", ":")) + "\n"
    target = ROOT / "server" / "openapi.json"
    if "--check" in sys.argv[1:]:
        if target.read_text(encoding="utf-8") != text:
            print(f"{target}: not made from openapi.yaml, run {sys.argv[0]}", file=sys.stderr)
            return 1
        return 0
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
