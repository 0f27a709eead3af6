from __future__ import annotations

from sluice.http.error_page import page


def test_what_strangers_wrote_is_escaped() -> None:
    text = page(400, "Bad Request", '<script>"\u202e\x1b\n</script>', "<b>", "1").decode()
    assert "<script>" not in text
    assert "&lt;script&gt;&quot;\\u202e\\x1b\\n&lt;/script&gt;" in text
    assert "Request &lt;b&gt;" in text
    assert "in 1 second." in text


def test_what_is_not_known_is_not_spoken_of() -> None:
    text = page(404, "Not Found", "nothing here", "", "").decode()
    assert "Request" not in text
    assert "try again" not in text
