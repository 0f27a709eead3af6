"""Certificates for tests, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certify(folder: Path, name: str = "tls", *, days: int = 90, host: str = "gate.test") -> tuple[Path, Path]:
    """A certificate that signs itself, and its key: `<name>.crt` and `<name>.key` in the folder."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    lasts = ("-not_before", "20200101000000Z", "-not_after", "20200201000000Z") if days < 0 else ("-days", str(days))
    made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key))
    about = ("-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host},IP:127.0.0.1")
    command = ("openssl", "req", "-x509", *made, "-out", str(cert), *lasts, *about)
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


class Authority:
    """One of our own, in a folder, and what it signs."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._name = folder, name
        self.cert, self._key = certify(folder, name, host=name)

    def issue(self, host: str) -> tuple[Path, Path]:
        """Certificate and key of a host, an IPv4 address or a name; made once."""
        cert, key = (self._folder / f"{self._name}-{host}.{kind}" for kind in ("crt", "key"))
        if not cert.exists():
            made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key))
            named = f"subjectAltName={'IP' if host[0].isdigit() else 'DNS'}:{host}"
            signed = ("-CA", str(self.cert), "-CAkey", str(self._key), "-addext", "basicConstraints=CA:FALSE")
            about = ("-subj", f"/CN={host}", "-addext", named, "-days", "90", *signed, "-out", str(cert))
            subprocess.run(("openssl", "req", "-x509", *made, *about), check=True, capture_output=True)
        return cert, key
