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
