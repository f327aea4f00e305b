"""Request URIs taken apart into options, and which addresses are groups."""

import sys
from binascii import unhexlify

import check
import coap
from coap import GET, Message


def taken_apart(uri, **options):
    """(remote, Uri-Host, Uri-Path, Uri-Query) of a GET of `uri`."""
    message = Message(GET)
    message.set_request_uri(uri, **options)
    return message.remote, message.opt.uri_host, message.opt.uri_path, message.opt.uri_query


def check_uris(rows):
    for uri, remote, host, path, query in rows:
        check.eq(taken_apart(uri), (remote, host, path, query), uri)
        message = Message(GET, uri=uri)
        check.eq((message.remote, message.opt.uri_path), (remote, path), uri)
        for number in 7, 35, 39:
            check.eq(message.find_option(number), (), "option %d of %s" % (number, uri))


def test_uri_when_as_in_appendix_b_then_its_options():
    """RFC 7252 appendix B, read backwards."""
    hiragana = "\u3053\u3093\u306b\u3061\u306f"
    check_uris((
        ("coap://[2001:db8::2:1]/", "[2001:db8::2:1]:5683", None, (), ()),
        ("coap://example.net/", "example.net:5683", "example.net", (), ()),
        ("coap://e.net/.well-known/core", "e.net:5683", "e.net", (".well-known", "core"), ()),
        (
            "coap://xn--18j4d.example/%E3%81%93%E3%82%93%E3%81%AB%E3%81%A1%E3%81%AF",
            "xn--18j4d.example:5683", "xn--18j4d.example", (hiragana,), (),
        ),
        (
            "coap://198.51.100.1:61616//%2F//?%2F%2F&?%26",
            "198.51.100.1:61616", None, ("", "/", "", ""), ("//", "?&"),
        ),
    ))


def test_uri_when_equivalent_then_the_same_options():
    """RFC 7252 section 6.1, 6.3: case of scheme and host, the default port, encoded unreserved characters."""
    expected = "example.com:5683", "example.com", ("~sensors", "temp.xml"), ()
    for uri in (
        "coap://example.com:5683/~sensors/temp.xml",
        "coap://EXAMPLE.com/%7Esensors/temp.xml",
        "coap://EXAMPLE.com:/%7esensors/temp.xml",
        "CoAP://Example.COM/%7Esensors/temp%2Exml",
    ):
        check.eq(taken_apart(uri), expected, uri)


def test_path_when_split_then_segments():
    """RFC 7252 section 6.4: one Uri-Path per segment, decoded after splitting."""
    check_uris((
        ("coap://h", "h:5683", "h", (), ()),
        ("coap://h/", "h:5683", "h", (), ()),
        ("coap://h/a", "h:5683", "h", ("a",), ()),
        ("coap://h/a/", "h:5683", "h", ("a", ""), ()),
        ("coap://h//", "h:5683", "h", ("", ""), ()),
        ("coap://h//a", "h:5683", "h", ("", "a"), ()),
        ("coap://h/a//b", "h:5683", "h", ("a", "", "b"), ()),
        ("coap://h/a%2Fb/c", "h:5683", "h", ("a/b", "c"), ()),
        ("coap://h/a%2fb", "h:5683", "h", ("a/b",), ()),
        ("coap://h/%C3%A9%00", "h:5683", "h", ("\u00e9\0",), ()),
        ("coap://h/%2525", "h:5683", "h", ("%25",), ()),
        ("coap://h/a+b&c=d;e,f:g@h!", "h:5683", "h", ("a+b&c=d;e,f:g@h!",), ()),
        ("coap://h/A/a", "h:5683", "h", ("A", "a"), ()),
        ("coap://h/.../.a/a..", "h:5683", "h", ("...", ".a", "a.."), ()),
        ("coap://h/" + "s" * 255, "h:5683", "h", ("s" * 255,), ()),
    ))


def test_path_when_it_has_dot_segments_then_they_are_resolved():
    """RFC 7252 section 6.4 step 2 (RFC 3986 section 5.2.4), 5.10.1: no Uri-Path is "." or ".."."""
    for uri, path in (
        ("coap://h/a/./b", ("a", "b")),
        ("coap://h/a/../b", ("b",)),
        ("coap://h/../b", ("b",)),
        ("coap://h/a/..", ()),
        ("coap://h/a/b/..", ("a", "")),
        ("coap://h/a/.", ("a", "")),
        ("coap://h/.", ()),
    ):
        check.eq(taken_apart(uri)[2], path, uri)


def test_query_when_split_then_arguments():
    """RFC 7252 section 6.4: one Uri-Query per argument between "&", decoded after splitting."""
    check_uris((
        ("coap://h?a", "h:5683", "h", (), ("a",)),
        ("coap://h/?a=1&b=2", "h:5683", "h", (), ("a=1", "b=2")),
        ("coap://h/p?a=1&a=1&a=2", "h:5683", "h", ("p",), ("a=1", "a=1", "a=2")),
        ("coap://h/p?a%26b=c%3Dd&e", "h:5683", "h", ("p",), ("a&b=c=d", "e")),
        ("coap://h/p?a=/b?c", "h:5683", "h", ("p",), ("a=/b?c",)),
        ("coap://h/p?a&&b", "h:5683", "h", ("p",), ("a", "", "b")),
        ("coap://h/p?a&", "h:5683", "h", ("p",), ("a", "")),
        ("coap://h/p?a+b%20%C3%A9", "h:5683", "h", ("p",), ("a+b \u00e9",)),
        ("coap://h/p?x=..", "h:5683", "h", ("p",), ("x=..",)),
    ))


def test_authority_when_ip_or_name_then_uri_host_only_for_a_name():
    """RFC 7252 section 6.4 step 5, 6: Uri-Host is the name in lower case, decoded; a literal needs none."""
    check_uris((
        ("coap://192.0.2.1/t", "192.0.2.1:5683", None, ("t",), ()),
        ("coap://192.0.2.1:61616/t", "192.0.2.1:61616", None, ("t",), ()),
        ("coap://[2001:DB8::1]/t", "[2001:db8::1]:5683", None, ("t",), ()),
        ("coap://[2001:db8::1]:1/t", "[2001:db8::1]:1", None, ("t",), ()),
        ("coap://[::ffff:192.0.2.1]:65535", "[::ffff:192.0.2.1]:65535", None, (), ()),
        ("coap://Sensor.Local:5683/t", "sensor.local:5683", "sensor.local", ("t",), ()),
        ("coap://host:/t", "host:5683", "host", ("t",), ()),
        ("coap://1.2.3.4.example/t", "1.2.3.4.example:5683", "1.2.3.4.example", ("t",), ()),
        ("coaps://host/t", "host:5684", "host", ("t",), ()),
        ("coaps://host:5683/t", "host:5683", "host", ("t",), ()),
    ))
    check.eq(taken_apart("coap://b%C3%BCcher.example/t")[1], "b\u00fccher.example")
    check.eq(taken_apart("coap://B%41D/t")[1], "bAd", "lower case before decoding")


def test_host_when_it_only_looks_like_an_address_then_uri_host():
    """RFC 3986 section 3.2.2: an IPv4 address is four numbers up to 255; all else is a name."""
    for host in "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.", "1..2.3", "5683":
        check.eq(taken_apart("coap://%s/t" % host)[1], host)


def test_uri_when_set_uri_host_is_false_then_none():
    """RFC 7252 section 6.4: Uri-Host may be left out for a server that has one name."""
    expected = "host:61616", None, ("t",), ("q",)
    check.eq(taken_apart("coap://host:61616/t?q", set_uri_host=False), expected)
    message = Message(GET, uri="coap://host/t")
    message.set_request_uri("coap://host/t", set_uri_host=False)
    check.eq(message.options, ((11, "t"),))


def test_uri_when_set_again_then_nothing_is_left_of_the_first():
    """RFC 7252 section 6.4: host, path and query are replaced, other options stay."""
    message = Message(GET, uri="coap://host/a/b?q", accept=50)
    message.set_request_uri("coap://192.0.2.1/c")
    check.eq((message.remote, message.options), ("192.0.2.1:5683", ((11, "c"), (17, 50))))
    message.set_request_uri("coap://192.0.2.1")
    check.eq(message.options, ((17, 50),))


def test_uri_when_on_the_wire_then_its_bytes():
    """RFC 7252 section 6.4: options in order, arguments of the constructor beside the URI."""
    message = Message(GET, mtype=coap.CON, mid=1, uri="coap://Ex/a%2Fb//?x&y=%26", accept=0)
    expected = "40010001" + "326578" + "83612f62" + "00" + "00" + "4178" + "03793d26" + "20"
    check.eq(message.encode(), unhexlify(expected))


def test_uri_when_of_another_scheme_then_whole_in_proxy_uri():
    """RFC 7252 section 5.10.2, 6.4: for a proxy; the remote stays the proxy."""
    for uri in "http://example.com/a/b?c=d", "https://[2001:db8::1]:8443/x", "coap+tcp://h/t", "HTTP://H/%2F":
        message = Message(GET, uri=uri, remote="proxy:5683")
        check.eq((message.options, message.remote), (((35, uri),), "proxy:5683"))


def test_uri_when_it_replaces_one_of_another_scheme_then_no_mixture():
    """RFC 7252 section 5.10.2: a request with Proxy-Uri has no Uri-Host, Uri-Path or Uri-Query."""
    message = Message(GET, uri="coap://h/a?q", accept=50)
    message.set_request_uri("http://example.com/b")
    check.eq(message.options, ((17, 50), (35, "http://example.com/b")))
    message.set_request_uri("coap://h/a")
    check.eq(message.options, ((3, "h"), (11, "a"), (17, 50)))


REFUSED = (
    "", "t", "/t", "host/t", "//host/t", "coap:", "coap:t", "coap:/t", "mailto:a@b",
    "coap://", "coap:///t", "coap://:5683/t", "coap://?q",
    "coap://h/t#f", "coap://h#", "coap://h/?q#f", "http://h/t#f",
    "coap://u@h/t", "coap://u:p@h/t", "coap://@h/t",
    "coap://h:65536/t", "coap://h:99999999999/t", "coap://h:x/t", "coap://h:-1/t", "coap://h:+1/t",
    "coap://h: 1/t", "coap://h:1:2/t", "coap://2001:db8::1/t", "coap://2001:db8::1]/t",
    "coap://[]/t", "coap://[::1]:x/t",
    "coap://h/%", "coap://h/%2", "coap://h/a%/b", "coap://h/%zz", "coap://h/%2g", "coap://h/%%41", "coap://h?%",
    "coap://h?a&%4", "coap://%/t", "coap://h/%ff", "coap://h/%C3", "coap://h?%C3%28",
)


def refused_wrongly(uris):
    """Those of `uris` that set_request_uri takes, or refuses by anything but a ValueError with a sentence."""
    wrong = []
    for uri in uris:
        try:
            found = taken_apart(uri)
        except ValueError:
            continue
        except Exception as error:
            found = error
        wrong.append((uri, found))
    return wrong


def test_uri_when_no_absolute_request_uri_then_valueerror():
    """RFC 7252 section 6.4: no scheme, host or port, a fragment, userinfo, a bad percent-encoding."""
    check.eq(refused_wrongly(REFUSED), [], "taken")


def test_uri_when_brackets_are_not_closed_then_valueerror():
    """RFC 3986 section 3.2.2: an IP literal is in brackets, and nothing but a port follows."""
    uris = "coap://[::1", "coap://[2001:db8::1/t", "coap://[::1]x/t", "coap://[::1]x:80/t", "coap://[::1]]:80/t"
    check.eq(refused_wrongly(uris), [], "taken")


def test_uri_when_port_is_0_then_valueerror():
    """RFC 7252 section 6.1: an explicit port is not replaced by the default one."""
    check.eq(refused_wrongly(("coap://h:0/t", "coap://[::1]:00000")), [], "taken")


def test_uri_when_digits_are_not_ascii_then_valueerror():
    """RFC 3986 section 3.2.3: a port has the digits 0 to 9, not all that Unicode calls a digit."""
    check.eq(refused_wrongly(("coap://h:\u0663/t", "coap://h:8\u00b2/t")), [], "taken")


def test_uri_when_percent_is_followed_by_sign_or_space_then_valueerror():
    """RFC 3986 section 2.1: two hexadecimal digits, nothing else that int() takes."""
    uris = "coap://h/%+5", "coap://h/%-5", "coap://h/% 5", "coap://h/%5 ", "coap://h/%1_", "coap://h?%+5"
    check.eq(refused_wrongly(uris), [], "taken")


def test_uri_when_scheme_is_none_then_valueerror():
    """RFC 3986 section 3.1: a scheme is a letter, then letters, digits, "+", "-", "."."""
    uris = "://h/t", " coap://h/t", "a/b://h/t", "1coap://h/t", "?q=coap://h"
    check.eq(refused_wrongly(uris), [], "taken")


def test_uri_when_a_part_is_too_long_then_valueerror():
    """RFC 7252 section 5.10.1: 255 bytes for a host, a segment, an argument."""
    for uri in "coap://%s/" % ("h" * 256), "coap://h/" + "s" * 256, "coap://h?" + "q" * 256:
        check.raises(ValueError, Message, GET, uri=uri, contains="256")
    check.eq(taken_apart("coap://h/" + "%41" * 255)[2], ("A" * 255,))
    check.raises(ValueError, Message, GET, uri="coap://h/" + "%41" * 256, contains="256")


def test_uri_when_refused_then_the_error_says_what_is_wrong():
    """RFC 7252 section 6.4: the text quotes what was given."""
    for uri, contains in (
        ("host/t", "host/t"),
        ("coap://u@h/t", "u@h"),
        ("coap://h:65536/t", "65536"),
        ("coap://h:x/t", "h:x"),
        ("coap://h/%zz", "zz"),
    ):
        check.raises(ValueError, Message(GET).set_request_uri, uri, contains=contains)


def test_uri_when_no_str_then_typeerror():
    """RFC 7252 section 6.4: a URI is text."""
    for uri in b"coap://h/t", 5:
        try:
            Message(GET).set_request_uri(uri)
        except (TypeError, AttributeError):
            continue
        raise AssertionError("%r was taken" % uri)


# ---- groups ----


def test_is_multicast_when_ipv4_tuple_then_224_to_239():
    """RFC 7252 section 8: 224.0.0.0/4."""
    for host, expected in (
        ("224.0.0.0", True), ("224.0.1.187", True), ("239.255.255.255", True),
        ("223.255.255.255", False), ("240.0.0.1", False), ("255.255.255.255", False), ("192.0.2.1", False),
        ("0.0.0.0", False), ("2.240.0.1", False), ("22.4.0.1", False),
    ):
        check.eq(coap.is_multicast((host, 5683)), expected, host)


def test_is_multicast_when_ipv6_tuple_then_ff():
    """RFC 7252 section 8: ff00::/8, with or without scope."""
    for host, expected in (
        ("ff02::fd", True), ("FF05::FD", True), ("ff0e::1%eth0", True),
        ("fe80::1", False), ("::1", False), ("2001:db8::ff02", False), ("fec0::1", False),
    ):
        check.eq(coap.is_multicast((host, 5683, 0, 2)), expected, host)
        check.eq(coap.is_multicast((host, 5683)), expected, host)


def test_is_multicast_when_sockaddr_bytes_then_by_the_address_in_them():
    """RFC 7252 section 8: addresses of MicroPython's unix port."""
    for text, expected in (
        ("02001633 e00001bb 0000000000000000", True),
        ("02001633 efffffff 0000000000000000", True),
        ("02001633 c0000201 0000000000000000", False),
        ("02001633 f0000001 0000000000000000", False),
        ("02001633 dfe00001 0000000000000000", False),
        ("0a001633 00000000 ff0200000000000000000000000000fd 00000002", True),
        ("0a001633 00000000 fe800000000000000000000000000001 00000002", False),
        ("0a001633 ffffffff 20010db80000000000000000000000ff 00000000", False),
    ):
        address = unhexlify(text.replace(" ", ""))
        check.eq(coap.is_multicast(address), expected, text)
        check.eq(coap.is_multicast(bytearray(address)), expected, text)


def test_is_multicast_when_no_address_then_false():
    """RFC 7252 section 8: names and other things are no groups."""
    for address in "224.0.1.187", "all.coap.example", "", None, 224, b"", b"\xff" * 8, ("ff.example", 5683):
        check.eq(coap.is_multicast(address), False, repr(address))


def test_uri_when_its_host_is_percent_encoded_then_remote_is_decoded_too():
    """RFC 7252 section 6.4 step 5: the host that is looked up is that of Uri-Host."""
    check.eq(taken_apart("coap://h%2Ex/"), ("h.x:5683", "h.x", (), ()))


def test_uri_when_it_encodes_no_utf_8_then_a_sentence_names_it():
    """RFC 7252 section 6.4: on every interpreter."""
    check.raises(ValueError, Message, GET, uri="coap://h/%ff", contains="%ff")


def test_copy_when_uri_and_options_change_then_the_options_are_those_given():
    """RFC 7252 section 6.4: in whatever order the arguments are."""
    message = Message(GET)
    for copy in (message.copy(uri_path=("b",), uri="coap://h/a"), message.copy(uri="coap://h/a", uri_path=("b",))):
        check.eq((copy.opt.uri_path, copy.remote), (("b",), "h:5683"))


# ---- link-local hosts, and the URI of who answered ----


def test_authority_when_it_has_a_zone_then_its_case_stays():
    """RFC 6874 section 2: it is the name of an interface, and enP1p17s0 is another than enp1p17s0."""
    for host in "[fe80::1%25enP1p17s0]", "[FE80::1%enP1p17s0]":
        check.eq(Message(GET, uri="coap://%s/t" % host).remote, host + ":5683")


def test_request_uri_when_the_peer_is_link_local_then_it_names_the_network():
    """RFC 6874: fe80::1 alone is on each network; of another address, and where there is but one, nothing is added."""
    zone = (12).to_bytes(4, sys.byteorder)
    unix = unhexlify("0a001633" + "00000000" + "fe80" + "00" * 13 + "01")
    for remote, host in (
        (("fe80::1", 5683, 0, 12), "[fe80::1%2512]"),
        (("fe80::1", 5683, 0, 0), "[fe80::1]"),
        (("2001:db8::1", 5683), "[2001:db8::1]"),
        (unix + zone, "[fe80:0:0:0:0:0:0:1%2512]"),
        (unix + bytes(4), "[fe80:0:0:0:0:0:0:1]"),
    ):
        uri = Message(GET, uri_path=("t",), remote=remote).get_request_uri()
        check.eq(uri, "coap://%s/t" % host)
        check.eq(Message(GET, uri=uri).remote, host + ":5683")
def test_request_uri_when_the_peer_is_one_that_no_uri_can_name_then_valueerror():
    """RFC 7252 section 6.5: a transport's peers may be anything; discovery leaves the base of such links empty."""
    for remote in (b"\x02\0\0\0\0\1", 7, (b"\x02\0\0\0\0\1", 1), (7, 1), (7,), (None, 0)):
        check.raises(ValueError, Message(GET, uri_path=("t",), remote=remote).get_request_uri, contains="remote")


