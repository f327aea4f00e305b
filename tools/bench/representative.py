"""Twelve representative messages, as datagrams; whatever is measured with them is a mean over these."""

import time

DATAGRAMS = (
    # empty ACK
    b"\x60\x00\x12\x34",
    # GET /sensors/temp, Accept 50
    b"\x42\x01\x7d\x34tk\xb7sensors\x04temp\x61\x32",
    # 2.05 with 20 bytes of text
    b"\x62\x45\x7d\x34tk\xc0\xff22.5 C and some more",
    # POST with five options (Uri-Host, Uri-Path twice, Content-Format, Accept) and 64 bytes
    b"\x48\x02\x7d\x34abcdefgh\x3bexample.org\x81a\x01b\x10\x51\x2a\xff" + b"p" * 64,
    # notification: NON 2.05, Observe, Content-Format, Max-Age
    b"\x54\x45\x7d\x34abcd\x61\x05\x60\x21\x3c\xff22.5",
    # 2.05 with ETag, Block2 and 512 bytes
    b"\x64\x45\x7d\x34abcd\x44etag\x80\xb1\x0e\xff" + b"x" * 512,
    # extended length (13), extended delta (13): a Uri-Path of 26 bytes, Size1
    b"\x40\x01\x34\x12\xbd\x0d" + b"a" * 26 + b"\xd1\x24\x01\xff" + b"y" * 20,
    # PUT /a/b with text
    b"\x40\x03\x01\x02\xb1a\x01b\x11\x2a\xffon",
    # extended delta (14): POST /a with Request-Tag
    b"\x44\x02\x7d\x34abcd\xb1a\xe4\x00\x0ctag1\xff" + b"z" * 8,
    # separate 2.05 with JSON
    b"\x48\x45\x7d\x34abcdefgh\xc1\x32\xff{}",
    # discovery with a filter
    b"\x44\x01\x7d\x34abcd\xbb.well-known\x04core\x49rt=sensor",
    # extended length (14): GET through a proxy, a Proxy-Uri of 300 bytes
    b"\x44\x01\x7d\x34abcd\xde\x16\x00\x1fcoap://example.org/" + b"q" * 281,
)


def per_second(n, count, function):
    """How many messages a second `function` does on CPython: it is called `n` times, and does `count` in each."""
    begin_s = time.process_time()
    for _ in range(n):
        function()
    return n * count / (time.process_time() - begin_s)
