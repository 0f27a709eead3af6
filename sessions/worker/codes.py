"""A code that a phone scans, as a picture."""

from __future__ import annotations

import base64
import io

import segno

_SCALE, _BORDER = 6, 2


def png(code: str) -> bytes:
    picture = io.BytesIO()
    segno.make(code).save(picture, kind="png", scale=_SCALE, border=_BORDER)
    return picture.getvalue()


def data_url(code: str) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(code)).decode('ascii')}"
