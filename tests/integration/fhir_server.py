"""A small FHIR R4 server for tests: OAuth 2.0 client credentials, reads, searches with pages, $everything, and transactions with
conditional create. It keeps what it was asked, and fails where a test wants it to."""
import base64
import http.server
import json
import threading
import time
import urllib.parse

TYPES = {"Observation": ["patient", "code", "combo-code", "_lastUpdated"], "Condition": ["patient", "code"], "Patient": ["identifier"],
         "MedicationRequest": ["patient"], "Encounter": ["patient"], "DiagnosticReport": ["identifier"], "Device": ["identifier"]}


def named(value, names):
    """The same with references by urn:uuid replaced by names."""
    if isinstance(value, dict):
        return {k: names.get(v, v) if k == "reference" else named(v, names) for k, v in value.items()}
    return [named(v, names) for v in value] if isinstance(value, list) else value


class FhirServer:
    """resources: of the start; everything: whether $everything is offered; secret: None = no token is needed."""

    def __init__(self, resources=(), everything=False, secret=None, page=3, capabilities=True):
        self.resources = {(r["resourceType"], r["id"]): r for r in resources}
        self.everything, self.secret, self.page, self.capabilities = everything, secret, page, capabilities
        self.asked, self.tokens, self.issued, self.fail = [], set(), 0, []
        self.transactions = []
        self.life = 3600
        self.next_url = None  # what `next` says instead of the truth
        self.verify = None  # checks a client assertion
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"fhir": self})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.origin = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.url = self.origin + "/fhir"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def of(self, kind):
        return [r for (t, _), r in self.resources.items() if t == kind]

    # --- what it answers ---

    def metadata(self):
        rows = [{"type": t, "searchParam": [{"name": p, "type": "token"} for p in names]} for t, names in TYPES.items()]
        if self.everything:
            next(r for r in rows if r["type"] == "Patient")["operation"] = [{"name": "everything", "definition": "x"}]
        return {"resourceType": "CapabilityStatement", "status": "active", "fhirVersion": "4.0.1", "rest": [{"mode": "server", "resource": rows}]}

    def search(self, kind, query):
        found = self.of(kind)
        for name, values in query.items():
            found = [r for r in found if all(self.fits(r, name, v) for v in values)]
        extra = []
        if "_include" in query:
            wanted = {r.get("medicationReference", {}).get("reference") for r in found}
            extra = [r for r in self.of("Medication") if f"Medication/{r['id']}" in wanted]
        return found, extra

    @staticmethod
    def fits(resource, name, value):
        if name in ("patient", "subject"):
            return (resource.get("subject") or resource.get("patient") or {}).get("reference") == f"Patient/{value.removeprefix('Patient/')}"
        if name in ("code", "combo-code"):
            codings = list(resource["code"]["coding"])
            if name == "combo-code":
                codings += [c for part in resource.get("component", []) for c in part["code"]["coding"]]
            return bool({f"{c.get('system', '')}|{c['code']}" for c in codings} & set(value.split(",")))
        if name == "identifier":
            system, _, text = value.rpartition("|")
            return any(i["value"] == text and system in ("", i.get("system")) for i in resource.get("identifier", []))
        if name == "_lastUpdated":
            return resource.get("meta", {}).get("lastUpdated", "") <= value.removeprefix("le")
        return True

    def everything_of(self, patient, kinds):
        mine = [r for r in self.resources.values() if (r["resourceType"], r["id"]) == ("Patient", patient)
                or (r.get("subject") or r.get("patient") or {}).get("reference") == f"Patient/{patient}" or r["resourceType"] == "Medication"]
        return [r for r in mine if r["resourceType"] in kinds]

    def transaction(self, bundle):
        with self.lock:
            self.transactions.append(bundle)
            answers = [self.perform(entry) for entry in bundle["entry"]]
            names = {entry["fullUrl"]: answer["location"] for entry, answer in zip(bundle["entry"], answers)}
            for key in [tuple(name.split("/")) for name in names.values()]:  # references by fullUrl become those that the server gave
                self.resources[key] = named(self.resources[key], names)
            return {"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": answer} for answer in answers]}

    def perform(self, entry):
        resource, request = dict(entry["resource"]), entry["request"]
        kind = resource["resourceType"]
        if request["method"] == "PUT":
            key = tuple(request["url"].split("/"))
            status = "200 OK" if key in self.resources else "201 Created"
            self.resources[key] = resource
            return {"status": status, "location": request["url"]}
        query = urllib.parse.parse_qs(request["ifNoneExist"])
        found, _ = self.search(kind, query)
        if found:
            return {"status": "200 OK", "location": f"{kind}/{found[0]['id']}"}
        resource["id"] = f"s{len(self.resources)}"
        self.resources[kind, resource["id"]] = resource
        return {"status": "201 Created", "location": f"{kind}/{resource['id']}"}

    def token(self, headers, form):
        if self.verify:
            if not self.verify(form):
                return 401, {"error": "invalid_client"}
        else:
            expected = "Basic " + base64.b64encode(f"medfusion:{urllib.parse.quote(self.secret, safe='')}".encode()).decode()
            if headers.get("Authorization") != expected or form.get("grant_type") != ["client_credentials"]:
                return 401, {"error": "invalid_client"}
        self.issued += 1
        token = f"token-{self.issued}"
        self.tokens.add(token)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.life}


class _Handler(http.server.BaseHTTPRequestHandler):
    fhir = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body, indent=1).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        needs = self.fhir.secret or self.fhir.verify
        return not needs or self.headers.get("Authorization", "").removeprefix("Bearer ") in self.fhir.tokens

    def failed(self):
        """A failure that a test asked for; "after" ones are sent when all is done."""
        if self.fhir.fail:
            status = self.fhir.fail.pop(0)
            if status:
                self.answer(status, {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]})
                return True
        return False

    def bundle(self, matches, extra, url):
        offset = int(urllib.parse.parse_qs(url.query).get("_offset", ["0"])[0])
        page = matches[offset:offset + self.fhir.page]
        entries = [{"fullUrl": f"{self.fhir.url}/{r['resourceType']}/{r['id']}", "resource": r, "search": {"mode": "match"}} for r in page]
        entries += [{"fullUrl": f"{self.fhir.url}/{r['resourceType']}/{r['id']}", "resource": r, "search": {"mode": "include"}} for r in extra]
        links = [{"relation": "self", "url": self.fhir.origin + self.path}]
        if offset + self.fhir.page < len(matches):
            query = urllib.parse.parse_qsl(url.query)
            query = [(k, v) for k, v in query if k != "_offset"] + [("_offset", str(offset + self.fhir.page))]
            true = f"{self.fhir.origin}{url.path}?{urllib.parse.urlencode(query)}"
            links.append({"relation": "next", "url": self.fhir.next_url or true})
        return {"resourceType": "Bundle", "type": "searchset", "total": len(matches), "link": links, "entry": entries}

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        self.fhir.asked.append(("GET", self.path))
        if not self.allowed():
            return self.answer(401, {})
        if self.failed():
            return None
        parts = url.path.removeprefix("/fhir/").split("/")
        if parts == ["metadata"]:
            return self.answer(200, self.fhir.metadata()) if self.fhir.capabilities else self.answer(403, {})
        if len(parts) == 3 and parts[2] == "$everything" and self.fhir.everything:
            return self.answer(200, self.bundle(self.fhir.everything_of(parts[1], query["_type"][0].split(",")), [], url))
        if len(parts) == 2 and tuple(parts) in self.fhir.resources:
            return self.answer(200, self.fhir.resources[tuple(parts)])
        if len(parts) == 1 and parts[0] in TYPES:
            return self.answer(200, self.bundle(*self.fhir.search(parts[0], query), url))
        return self.answer(404, {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-found"}]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.fhir.asked.append(("POST", self.path))
        if self.path == "/token":
            return self.answer(*self.fhir.token(self.headers, urllib.parse.parse_qs(body.decode())))
        if not self.allowed():
            return self.answer(401, {})
        bundle = json.loads(body)
        late = self.fhir.fail.pop(0) if self.fhir.fail else None
        if late and late > 0:
            return self.answer(late, {})
        done = self.fhir.transaction(bundle)
        if late == -1:  # it is done, and the answer gets lost
            self.close_connection = True
            return self.connection.close()
        return self.answer(200, done)


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()
