"""Keys and certificates for tests, made by the openssl command."""
import pathlib
import subprocess


def openssl(*arguments, **options):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60, **options)


class Authority:
    """A certificate authority in a directory; issue() makes NAME.pem and NAME.key there."""

    def __init__(self, directory, name="authority"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.key, self.certificate = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30, "-subj", f"/CN={name}",
                "-keyout", self.key, "-out", self.certificate)

    def issue(self, name, days=30, algorithm=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        """The certificate (for 127.0.0.1 and localhost) and its key; days < 0: it has expired."""
        key, certificate, request = (self.directory / f"{name}.{kind}" for kind in ("key", "pem", "csr"))
        openssl("req", "-newkey", *algorithm, "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions = self.directory / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", days,
                "-extfile", extensions, "-out", certificate)
        return certificate, key
