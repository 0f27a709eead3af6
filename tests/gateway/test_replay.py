from __future__ import annotations

from pathlib import Path

from gateway.policies import load
from gateway.replay import Replay

LIMIT = "limits: [{id: send, event: send, per: [session], rate: 1/hour, burst: 1}]\n"


def test_a_bucket_is_remembered_however_many_others_there_are(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(
        "version: 1\nupstreams: {laravel: {url: http://127.0.0.1:8000}}\n"
        f"routes: [{{path: /**, event: send, session: {{header: X-Session}}, upstream: laravel}}]\n{LIMIT}"
    )
    replay = Replay(load(file))
    for at in (1.0, 2.0):
        for i in range(5000):
            row = {"method": "GET", "path": "/", "client": "192.0.2.7", "event": "send", "session": f"s{i}"}
            replay.take(at, {**row, "status": 200})
    assert (replay.requests, replay.refused_now, replay.forgotten) == (10_000, 5000, 0)
