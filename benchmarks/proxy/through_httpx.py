"""fastapi-proxy-lib as its README shows it; runs in the peers' own venv."""

from __future__ import annotations

import os

from fastapi_proxy_lib.fastapi.app import reverse_http_app

app = reverse_http_app(base_url=os.environ["UPSTREAM"])
