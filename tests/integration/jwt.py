"""JSON Web Keys and Tokens for tests, made with the openssl command; what is wrong with a token is up to the caller."""
import base64
import hashlib
import hmac
import json
import re
import time

import certificates


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value):
    return b64(json.dumps(value).encode() if not isinstance(value, bytes) else value)


class Key:
    """A private key in a file; kinds: rsa (2048 bits), ec (P-384), or what openssl genpkey is to be told."""

    KINDS = {"rsa": ("RSA", "rsa_keygen_bits:2048"), "rsa1024": ("RSA", "rsa_keygen_bits:1024"), "ec": ("EC", "ec_paramgen_curve:P-384"),
             "p256": ("EC", "ec_paramgen_curve:P-256")}

    def __init__(self, directory, kid, kind="ec"):
        self.kid, self.kind, self.path = kid, kind, directory / f"{kid}.key"
        algorithm, option = self.KINDS[kind]
        certificates.openssl("genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", self.path)

    @property
    def algorithm(self):
        return "RS384" if self.kind.startswith("rsa") else "ES384"

    def public(self, **members):
        """As a JWK."""
        if self.kind.startswith("rsa"):
            text = certificates.openssl("rsa", "-in", self.path, "-modulus", "-noout").stdout.decode()
            jwk = {"kty": "RSA", "n": b64(bytes.fromhex(text.strip().split("=")[1])), "e": "AQAB"}
        else:
            size = 48 if self.kind == "ec" else 32
            point = certificates.openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER").stdout[-2 * size:]
            jwk = {"kty": "EC", "crv": "P-384" if self.kind == "ec" else "P-256", "x": b64(point[:size]), "y": b64(point[size:])}
        return {**jwk, "kid": self.kid, "alg": self.algorithm, "use": "sig", **members}

    def signature(self, text, digest="sha384"):
        made = certificates.openssl("dgst", f"-{digest}", "-sign", self.path, input=text.encode()).stdout
        if self.kind.startswith("rsa"):
            return made
        size = 48 if self.kind == "ec" else 32
        numbers, at = [], 3 if made[1] & 0x80 else 2  # SEQUENCE of two INTEGERs
        for _ in range(2):
            length = made[at + 1]
            numbers.append(made[at + 2:at + 2 + length].lstrip(b"\0").rjust(size, b"\0"))
            at += 2 + length
        return b"".join(numbers)

    def token(self, claims, header=None, drop=(), digest="sha384"):
        """A signed token; `header` changes members, `drop` leaves some out."""
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **(header or {})}
        text = part({k: v for k, v in head.items() if k not in drop}) + "." + part(claims)
        return text + "." + b64(self.signature(text, digest))


def hmac_token(secret, claims, header):
    text = part(header) + "." + part(claims)
    return text + "." + b64(hmac.new(secret, text.encode(), hashlib.sha384 if header["alg"] == "HS384" else hashlib.sha256).digest())


def claims(**changes):
    """Good claims of an access token, with changes; None leaves one out."""
    now = int(time.time())
    good = {"iss": "https://idp.test", "aud": "https://medfusion.test", "sub": "somebody", "exp": now + 300, "iat": now, "scope": "jobs.read"}
    return {k: v for k, v in {**good, **changes}.items() if v is not None}
