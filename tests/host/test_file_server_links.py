"""ports/file_server.py where there are symbolic links, which MicroPython's os cannot make."""

import os

import check
import coap
from test_file_server import OUTSIDE, ROOT, Files, read


def test_link_when_it_leads_outside_then_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Files() as files:
        os.symlink("../" + OUTSIDE, ROOT + "/link")
        check.eq(files.ask(coap.GET, "link").code, coap.NOT_FOUND)
        check.eq(files.ask(coap.PUT, "link", b"x").code, coap.FORBIDDEN)
        check.eq(files.ask(coap.DELETE, "link").code, coap.NOT_FOUND)
        check.eq(files.ask(coap.GET, "", uri_path=("files",)).payload.find(b"link"), -1)
        check.eq(read(OUTSIDE), b"secret")
