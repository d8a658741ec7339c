"""An S3-compatible server for tests: moto's, behind a guard that checks every request as Amazon's does.

The guard verifies the signature (AWS Signature Version 4, computed anew by botocore), the digest of the body and how old the request is, and
refuses what does not fit; moto would take anything. It counts requests and can be told to misbehave.
"""
import datetime
import hashlib
import io
import logging
import threading

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)

ID, SECRET, REGION, BUCKET = "AKIATESTTESTTESTTEST", "s3cret/canary+key", "eu-test-1", "payloads"


class Server:
    """Runs in threads; `faults` holds functions of (method, path, query), each of which may name what to do to that request:
    an HTTP status to answer, "cut" (half of the answer's body, then the connection ends) or "flip" (a bit of the answer's body)."""

    def __init__(self, tls=None):
        s3_backends.reset()  # they outlive a server
        self.requests, self.refused, self.faults, self.keys = [], [], [], {ID: (SECRET, None)}
        self.lock = threading.Lock()
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.http = make_server("127.0.0.1", 0, self.serve, threaded=True, ssl_context=tls)
        self.host = f"127.0.0.1:{self.http.server_port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.tls = tls
        self.keep(lambda client: client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}))

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    # --- what a test asks of it, by Amazon's own client ---

    def keep(self, ask):
        client = boto3.client("s3", endpoint_url=self.url, region_name=REGION, aws_access_key_id=ID, aws_secret_access_key=SECRET, verify=False,
                              config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
        before, self.checking = getattr(self, "checking", True), False
        try:
            return ask(client)
        finally:
            self.checking = before
            client.close()

    def names(self, prefix=""):
        found = self.keep(lambda client: client.list_objects_v2(Bucket=BUCKET, Prefix=prefix))
        return [entry["Key"] for entry in found.get("Contents", [])]

    def read(self, name):
        return self.keep(lambda client: client.get_object(Bucket=BUCKET, Key=name)["Body"].read())

    def clear(self):
        """Every object is lost."""
        for name in self.names():
            self.keep(lambda client, name=name: client.delete_object(Bucket=BUCKET, Key=name))

    def uploads(self):
        return self.keep(lambda client: client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))

    def age(self, seconds):
        """Everything was put so much earlier."""
        for key in s3_backends["123456789012"]["aws"].buckets[BUCKET].keys.values():
            key.last_modified -= datetime.timedelta(seconds=seconds)

    # --- the guard ---

    def serve(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if len(body) < length:  # its sender was killed: nobody hears the answer, and nothing is kept
            return answer(start_response, 400, "IncompleteBody")
        environ["wsgi.input"] = io.BytesIO(body)
        method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        checking = getattr(self, "checking", True) and "boto" not in environ.get("HTTP_USER_AGENT", "").lower()
        fault = None
        if checking:
            with self.lock:
                self.requests.append((method, path, query))
                fault = next((done for done in (f(method, path, query) for f in self.faults) if done), None)
            reason = self.judge(environ, body)
            if reason:
                self.refused.append(reason)
                return answer(start_response, 403, reason)
        if isinstance(fault, int):
            return answer(start_response, fault, "told to")
        return misbehave(fault, self.moto(environ, start_response))

    def judge(self, environ, body):
        """Why Amazon's server would refuse it, or None."""
        given = environ.get("HTTP_AUTHORIZATION", "")
        time, digest = environ.get("HTTP_X_AMZ_DATE", ""), environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")
        if not given.startswith("AWS4-HMAC-SHA256 Credential="):
            return "no signature"
        identity = given.split("Credential=")[1].split("/")[0]
        if identity not in self.keys:
            return "InvalidAccessKeyId"
        secret, token = self.keys[identity]
        now = datetime.datetime.now(datetime.timezone.utc)
        try:
            at = datetime.datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        except ValueError:
            return "no x-amz-date"
        if abs((now - at).total_seconds()) > 900:
            return "RequestTimeTooSkewed"
        if digest != hashlib.sha256(body).hexdigest():
            return "XAmzContentSHA256Mismatch"
        if token and environ.get("HTTP_X_AMZ_SECURITY_TOKEN") != token:
            return "ExpiredToken"
        signed = given.split("SignedHeaders=")[1].split(",")[0].split(";")
        sent = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
        unsigned = [name for name in sent if name.startswith("x-amz-") and name not in signed]
        if unsigned or "host" not in signed:
            return f"not signed: {unsigned}"
        query = environ.get("QUERY_STRING", "")
        request = AWSRequest(method=environ["REQUEST_METHOD"], url=f"{self.url}{environ['PATH_INFO']}{'?' + query if query else ''}", data=body,
                             headers={name: sent[name] for name in signed})
        request.context["timestamp"] = time
        auth = S3SigV4Auth(Credentials(identity, secret), "s3", REGION)
        canonical = auth.canonical_request(request)
        if auth.signature(auth.string_to_sign(request, canonical), request) != given.split("Signature=")[1]:
            return "SignatureDoesNotMatch"
        return None


def answer(start_response, status, text):
    body = f"<Error><Code>{text}</Code></Error>".encode()
    start_response(f"{status} X", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def misbehave(fault, chunks):
    if fault is None:
        return chunks
    body = b"".join(chunks)
    if fault == "cut":
        return [body[: len(body) // 2]]
    assert fault == "flip"
    return [body[:-1] + bytes([body[-1] ^ 1])]
