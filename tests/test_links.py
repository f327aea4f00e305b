"""Link format, discovery and registration with a resource directory, over transports of the test."""

import check
import coap
import coap_block
import coap_links
import fake
from coap_links import Link, Registration, discover, find, parse

# ---- link format ----


def summary(links):
    """[(target, attributes)] of links."""
    return [(link.target, link.attributes) for link in links]


GOOD = (
    ("", []),
    ("</a>", [("/a", {})]),
    ("<>", [("", {})]),
    ("</a>,</b>", [("/a", {}), ("/b", {})]),
    ("</a>,</a>", [("/a", {}), ("/a", {})]),
    ('</a>;rt="temperature";ct=0', [("/a", {"rt": ["temperature"], "ct": ["0"]})]),
    ('</a>;rt="x y";if="s"', [("/a", {"rt": ["x y"], "if": ["s"]})]),
    ("</a>;obs", [("/a", {"obs": []})]),
    ("</a>;obs;ct=40,</b>;obs", [("/a", {"obs": [], "ct": ["40"]}), ("/b", {"obs": []})]),
    ('</a>;title="one, two; <three>"', [("/a", {"title": ["one, two; <three>"]})]),
    ('</a>;title="a \\"b\\" \\\\ c",</b>', [("/a", {"title": ['a "b" \\ c']}), ("/b", {})]),
    ('</a>;title=""', [("/a", {"title": [""]})]),
    ("</a>;title=", [("/a", {"title": [""]})]),
    ("</a>;foo=1;foo=2", [("/a", {"foo": ["1", "2"]})]),
    ("</a>;rt=x;rt=y;title=1;title=2", [("/a", {"rt": ["x"], "title": ["1"]})]),
    ("</a>;RT=x", [("/a", {"rt": ["x"]})]),
    ("</a;b,c>;ct=0", [("/a;b,c", {"ct": ["0"]})]),
    ("<coap://[2001:db8::1]:61616/t?x=1>;sz=4711", [("coap://[2001:db8::1]:61616/t?x=1", {"sz": ["4711"]})]),
    ("</a>;title*=UTF-8''%c3%a4", [("/a", {"title*": ["UTF-8''%c3%a4"]})]),
    ('</a> ; rt = "x" ,\r\n </b>\n', [("/a", {"rt": ["x"]}), ("/b", {})]),
    ('</\u00e4>;title="\u20ac"', [("/\u00e4", {"title": ["\u20ac"]})]),
    ("</a>;k=a=b<c>", [("/a", {"k": ["a=b<c>"]})]),
)

BAD = (
    "a", "<", "</a", "</a>b", "</a>,", ",", "</a>,,</b>", "</a>;", "</a>;;ct=0", "</a>;=1", "</a>;,</b>", "</a> </b>",
    '</a>;t="', '</a>;t="x', '</a>;t="x\\', '</a>;t="x\\"', '</a>;t="x"y', '</a>;t=x"y"', '</a>;"t"=x', "</a>;t=x y",
    '{"json": 1}', "22.5 C", "</a>b</b>", "</a>;ct=0 x</b>",
)  # fmt: skip


def test_parse_when_the_document_is_good_then_links_in_order():
    """RFC 6690 section 2: link format"""
    for text, expected in GOOD:
        check.eq(summary(parse(text)), expected, text)
        check.eq(summary(parse(text.encode())), expected, text)
        check.eq(summary(parse(memoryview(text.encode()))), expected, text)


def test_parse_when_the_document_is_broken_then_format_error():
    """RFC 6690 section 2: what is no link format"""
    for text in BAD:
        check.raises(coap.FormatError, parse, text)
        check.raises(coap.FormatError, parse, text.encode())
    for data in (b"<\xff>", b"</a>;t=\xff", b'</a>;t="\xff"', b"</a>;\xff=1", bytes(64)):
        check.raises(coap.FormatError, parse, data)


def test_parse_when_bytes_are_changed_at_random_then_links_or_format_error():
    """RFC 6690: hostile documents"""
    random = fake.Random(6690)
    original = ",".join([text for text, _ in GOOD if text]).encode()
    refused = 0
    for _ in range(600):
        data = bytearray(original)
        for _ in range(1 + random.below(4)):
            data[random.below(len(data))] = b'<>;,="\\ a\xff'[random.below(10)]
        data = bytes(data[: random.below(len(data))]) if random.percent(30) else bytes(data)
        try:
            for link in parse(data, "coap://h"):
                check.eq((type(link.target), type(link.uri), type(link.rt)), (str, str, list))
        except coap.FormatError:
            refused += 1
    assert 50 < refused < 600, refused


def parse_ms(data):
    """How long parsing takes."""
    begin_ms = coap.ticks_ms()
    try:
        parse(data)
    except MemoryError:
        raise check.Skip("no memory for a document of %d bytes" % len(data))
    return coap.ticks_diff(coap.ticks_ms(), begin_ms)


def test_parse_when_a_document_is_long_then_the_time_grows_no_faster():
    """RFC 6690: hostile documents; what takes the square of the length would take 64 times as long"""
    check.eq(len(parse(b'</a>;t="' + b'\\"' * 5000 + b'"')[0].attributes["t"][0]), 5000)
    quoted = b'</a>;t="'
    for start, repeated in (
        (quoted, b"\\\\"),
        (quoted, b'\\"'),
        (b"</a>", b";t"),
        (b"</a>;t=", b"x"),
        (b"</a>", b" "),
    ):
        end = b'"' if start is quoted else b""
        short_ms = parse_ms(start + repeated * 1000 + end)
        long_ms = parse_ms(start + repeated * 8000 + end)
        assert long_ms < 24 * short_ms + 40, (repeated, short_ms, long_ms)


def test_link_when_attributes_have_words_then_lists():
    """RFC 6690 section 3: rt and if are lists"""
    link = parse('</a>;rt="x y";if=s;ct="0 50";obs')[0]
    check.eq((link.rt, link.if_, link.words("ct"), link.words("obs")), (["x", "y"], ["s"], ["0", "50"], []))
    bare = Link("/a", {})
    check.eq((bare.rt, bare.if_, bare.words("ct")), ([], [], []))
    check.eq(repr(Link("/a", {"obs": []})), "Link('/a', {'obs': []}, '')")


def test_link_when_its_base_is_known_then_an_absolute_uri():
    """RFC 6690 section 2.1: targets are relative to where the links came from"""
    base = "coap://[fe80::1]:61616"
    for target, uri in (
        ("/a/b?x=1", base + "/a/b?x=1"),
        ("a", base + "/a"),
        ("", base + "/"),
        ("/a:b", base + "/a:b"),
        ("?x=a:b", base + "/?x=a:b"),
        ("//other/x", "coap://other/x"),
        ("coaps://other/x", "coaps://other/x"),
        ("mailto:a@b", "mailto:a@b"),
    ):
        check.eq(Link(target, {}, base).uri, uri)
    check.eq(Link("/a", {}).uri, "/a")


def test_find_when_filters_are_given_then_all_have_to_match():
    """RFC 6690 section 4.1: filters"""
    text = '</t>;rt="temperature-c sensor";if=s;ct="0 40",</h>;rt=humidity;if=s;obs,</x>;title="big one",</y>'
    links = parse(text)

    def found(**filters):
        return [link.target for link in find(links, **filters)]

    check.eq(found(), ["/t", "/h", "/x", "/y"])
    check.eq(found(rt="sensor"), ["/t"])
    check.eq(found(rt="temperature-c sensor"), ["/t"])
    check.eq(found(rt="temp*"), ["/t"])
    check.eq(found(rt="temp"), [])
    check.eq(found(rt="*"), ["/t", "/h"])
    check.eq(found(if_="s"), ["/t", "/h"])
    check.eq(found(if_="s", rt="humidity"), ["/h"])
    check.eq(found(ct=40), ["/t"])
    check.eq(found(ct=4), [])
    check.eq(found(obs=True), ["/h"])
    check.eq(found(obs="x"), [])
    check.eq(found(title="big one"), ["/x"])
    check.eq(found(href="/x"), ["/x"])
    check.eq(found(href="/*"), ["/t", "/h", "/x", "/y"])
    check.eq(found(href="/t", rt="humidity"), [])


# ---- hosts on a virtual network ----


class Port:
    """The transport of one host: what is sent to its address lands in `inbox`."""

    def __init__(self, hub):
        self.hub = hub
        self.inbox = []

    def sendto(self, data, peer):
        self.hub.deliver(self, bytes(data), peer)
        return len(data)

    def recvfrom(self, n):
        self.hub.run_servers()
        return self.inbox.pop(0) if self.inbox else None


class Hub:
    """Hosts joined without delay; a client that looks for datagrams lets the servers work. None arrives if `down`."""

    def __init__(self):
        self.ports = {}  # address -> ports that receive what goes there
        self.addresses = {}  # id of a port -> its address
        self.servers = []
        self.is_running = False
        self.down = False
        self.sent = []  # datagrams, in order

    def host(self, name, group=None, is_server=True, **tables):
        """A new endpoint at "192.0.2.1", and in a group; a client if not `is_server`."""
        port = Port(self)
        sizes = {"recent": 4, "kept": 2, "datagram_len": 640}  # so that many hosts fit on a board
        sizes.update(tables)
        endpoint = coap.Endpoint(sock=port, **sizes)
        self._join(port, endpoint.resolve(name), endpoint.resolve(name))
        if group:
            group_port = Port(self)
            endpoint.register_socket(group_port, is_group=True)
            self._join(group_port, endpoint.resolve(group), endpoint.resolve(name))
        if is_server:
            self.servers.append(endpoint)
        return endpoint

    def _join(self, port, address, own_address):
        self.ports.setdefault(address, []).append(port)
        self.addresses[id(port)] = own_address

    def run_servers(self):
        if not self.is_running:  # they look for datagrams, too
            self.is_running = True
            for server in self.servers:
                server.process(0)
            self.is_running = False

    def deliver(self, source, datagram, destination):
        self.sent.append(datagram)
        if self.down:
            return
        for port in self.ports.get(destination, ()):
            port.inbox.append((datagram, self.addresses[id(source)]))


def text_of(text):
    """A handler that answers `text`."""
    return lambda request, response: text


def sensor_host(hub, name, rt, **more):
    """A server with a resource `t` of this rt."""
    endpoint = hub.host(name, **more)
    endpoint.resource("t", rt=rt, ct=coap.TEXT).get(text_of(rt))
    return endpoint


def raw_host(hub, name, handler, group=None):
    """A server whose .well-known/core is answered by `handler`."""
    endpoint = hub.host(name, group)
    endpoint.resource(".well-known/core").get(handler)
    return endpoint


# ---- discovery ----

GROUP = "224.0.1.187"


def test_discover_when_a_host_answers_then_its_links_lead_there():
    """RFC 7252 section 7.2: unicast discovery"""
    with fake.Clock():
        hub = Hub()
        server = sensor_host(hub, "192.0.2.1", "temperature")
        server.resource("led", rt="light").get(text_of("on"))
        client = hub.host("192.0.2.9", is_server=False)
        for host in (
            "192.0.2.1", "coap://192.0.2.1", "coap://192.0.2.1/", "coap://192.0.2.1:5683",
            "192.0.2.1/", "192.0.2.1:5683/t", "coap://192.0.2.1/t",
        ):  # fmt: skip
            links = discover(client, host)
            check.eq([link.uri for link in links], ["coap://192.0.2.1/t", "coap://192.0.2.1/led"])
        links = discover(client, "192.0.2.1", rt="temp*")
        check.eq([link.uri for link in links], ["coap://192.0.2.1/t"])
        check.eq(client.get(links[0].uri).payload, b"temperature")
        check.eq(discover(client, "192.0.2.1", rt="nothing"), [])


def test_discover_when_a_filter_is_none_then_it_is_none():
    """RFC 6690 section 4.1: as an attribute that is None is none; rt=None was asked for, and no host has that."""
    with fake.Clock():
        hub = Hub()
        sensor_host(hub, "192.0.2.1", "temperature")
        client = hub.host("192.0.2.9", is_server=False)
        check.eq([link.target for link in discover(client, "192.0.2.1", rt=None)], ["/t"])
        check.eq(Registration(client, "coap://192.0.2.8/rd", "n", d=None).queries, ["ep=n", "lt=90000"])


def test_discover_when_the_server_does_not_filter_then_we_do():
    """RFC 6690 section 4: a server need not support filters"""
    asked = []

    def everything(request, response):
        asked.append(request.opt.uri_query)
        return "</a>;rt=x;if=i;obs,</b>;rt=y"

    with fake.Clock():
        hub = Hub()
        raw_host(hub, "192.0.2.1", everything)
        client = hub.host("192.0.2.9", is_server=False)
        check.eq([link.target for link in discover(client, "192.0.2.1", rt="y")], ["/b"])
        check.eq([link.target for link in discover(client, "192.0.2.1", obs=True, if_="i")], ["/a"])
    check.eq(asked, [("rt=y",), ("if=i",)])


def test_discover_when_the_answer_has_no_links_then_one_clear_error():
    """RFC 6690: a 4.04 lists nothing; another error and another format are errors"""
    with fake.Clock():
        hub = Hub()
        client = hub.host("192.0.2.9", is_server=False)
        raw_host(hub, "192.0.2.1", text_of(coap.NOT_FOUND))
        raw_host(hub, "192.0.2.2", text_of(coap.INTERNAL_SERVER_ERROR))
        raw_host(hub, "192.0.2.3", text_of('{"a": 1}'))
        check.eq(discover(client, "192.0.2.1"), [])
        check.raises(coap.Error, discover, client, "192.0.2.2", contains="5.00")
        check.raises(coap.FormatError, discover, client, "192.0.2.3")
        check.raises(coap.Timeout, discover, client, "192.0.2.4", 5000)
        check.raises(ValueError, discover, client, "http://192.0.2.1")
        check.raises(ValueError, discover, client, "a b@c")


def test_discover_when_a_group_is_asked_then_the_links_of_all_within_the_time():
    """RFC 7252 section 8, RFC 6690 section 2.2: many answers; what cannot be read is left out"""
    with fake.Clock() as clock:
        hub = Hub()
        for n in (1, 2, 3):
            sensor_host(hub, "192.0.2.%d" % n, "temperature", group=GROUP)
        sensor_host(hub, "192.0.2.4", "light", group=GROUP)
        raw_host(hub, "192.0.2.5", text_of("no links"), GROUP)
        client = hub.host("192.0.2.9", is_server=False)
        links = discover(client, GROUP, 5500, rt="temperature")
        expected = ["coap://192.0.2.%d/t" % n for n in (1, 2, 3)]
        check.eq(sorted([link.uri for link in links]), expected)
        assert 5500 <= clock.now_ms < 5600, clock.now_ms
        check.eq(client.get(links[0].uri).payload, b"temperature")
        check.eq(len(discover(client, "coap://" + GROUP)), 4)
        assert 11500 <= clock.now_ms < 11700, clock.now_ms


def test_discover_when_enough_of_a_group_have_answered_then_it_ends():
    """RFC 7252 section 8: a bound for the answers of a group"""
    with fake.Clock() as clock:
        hub = Hub()
        for n in range(1, 19):  # a board has no room for many more
            sensor_host(hub, "192.0.2.%d" % n, "temperature", group=GROUP)
        client = hub.host("192.0.2.99", is_server=False)
        check.eq(len(discover(client, GROUP, most=5)), 5)
        check.eq(len(discover(client, GROUP)), 16)
        assert clock.now_ms < 10000, clock.now_ms
        client = hub.host("192.0.2.98", is_server=False, group_responses=18)
        check.eq(len(discover(client, GROUP, most=18)), 18)
        assert client.next_event_ms() > 200000, "its request is still open"


def test_discover_when_nobody_of_a_group_answers_then_nothing_after_the_time():
    """RFC 7252 section 8: an empty network; requests meanwhile are refused where no resource serves them"""
    with fake.Clock() as clock:
        hub = Hub()
        client = hub.host("192.0.2.9", is_server=False)
        port = hub.ports[client.resolve("192.0.2.9")][0]
        port.inbox.append((fake.packet(coap.GET, 7, uri_path=("x",)), client.resolve("192.0.2.1")))
        check.eq(discover(client, GROUP, 3000), [])
        assert 3000 <= clock.now_ms < 3100, clock.now_ms
        check.eq([fake.head(sent)[:2] for sent in hub.sent], [(coap.NON, coap.GET), (coap.ACK, 163)])


def test_discover_when_another_response_comes_meanwhile_then_process_returns_it():
    """RFC 7252 section 5.3: what the application had sent before is answered while a group is"""
    with fake.Clock():
        hub = Hub()
        sensor_host(hub, "192.0.2.1", "temperature", group=GROUP)
        client = hub.host("192.0.2.9", is_server=False)
        record = client.send(coap.Message(coap.GET, uri="coap://192.0.2.1/t"))
        check.eq(len(discover(client, GROUP)), 1)
        check.eq(record.is_done(), True)
        received = client.process(0)
        check.eq((received.pertains_to is record, received.message.payload), (True, b"temperature"))
        check.eq(client.process(0), None)


def test_discover_when_a_host_of_a_group_answers_no_more_then_it_is_not_waited_for():
    """RFC 7959 section 2.8: who sent a first block, from an address that may be forged, and no second"""

    def first_block(request, response):
        response.opt.block2 = 14
        return "</a>" if request.mtype == coap.NON else coap.NO_RESPONSE

    with fake.Clock() as clock:
        hub = Hub()
        for n in (1, 2):
            raw_host(hub, "192.0.2.%d" % n, first_block, GROUP)
        client = hub.host("192.0.2.9", is_server=False, datagram_len=1152)
        coap_block.attach(client)
        check.eq(discover(client, GROUP), [])
        assert 18000 <= clock.now_ms < 19000, clock.now_ms


# ---- registration ----


class Directory:
    """A resource directory: notes what it is asked, answers with the next of `codes`, if there are any."""

    def __init__(self, hub, name="192.0.2.200", group=None, path="rd"):
        self.endpoint = hub.host(name, group)
        self.codes = []
        self.seen = []  # (what, query, payload)
        self.endpoint.resource(path, rt="core.rd").post(self.register)
        self.endpoint.resource("lookup", rt="core.rd-lookup-ep")
        registered = self.endpoint.resource("reg/7/")
        registered.post(self.update)
        registered.delete(self.remove)

    def _note(self, what, request):
        self.seen.append((what, request.opt.uri_query, bytes(request.payload)))
        return self.codes.pop(0) if self.codes else None

    def register(self, request, response):
        check.eq(request.opt.content_format, coap.LINKS)
        response.opt.location_path = ("reg", "7", "")
        return self._note("register", request)

    def update(self, request, response):
        return self._note("update", request) or coap.CHANGED

    def remove(self, request, response):
        return self._note("remove", request)

    def asked(self):
        """What it was asked since the last call."""
        names = [name for name, _, _ in self.seen]
        self.seen = []
        return names


def fleet():
    """(hub, directory, endpoint of a device with a sensor)"""
    hub = Hub()
    directory = Directory(hub)
    device = sensor_host(hub, "192.0.2.1", "temperature", is_server=False)
    return hub, directory, device


def run(endpoint, registration, clock, ms):
    """The application's loop for `ms`; raises if it spins."""
    clock.left_ms = 3 * ms + 1000000
    end_ms = clock.now_ms + ms
    turns = 0
    while clock.now_ms < end_ms:
        wait_ms = registration.tick()
        left_ms = end_ms - clock.now_ms
        endpoint.process(left_ms if wait_ms is None else min(wait_ms, left_ms))
        turns += 1
        assert turns < 200 + ms // 500, "it spins"


def test_registration_when_the_directory_answers_then_it_finds_registers_and_updates():
    """RFC 9176 sections 4.1, 5, 5.3.1"""
    with fake.Clock() as clock:
        _, directory, device = fleet()
        registration = Registration(device, "192.0.2.200", "node1", lt_s=100, d="floor", et="thermo")
        check.eq((registration.location, registration.error), (None, None))
        run(device, registration, clock, 1000)
        queries = ("ep=node1", "lt=100")
        name, query, payload = directory.seen[0]
        check.eq((name, query[:2], sorted(query[2:])), ("register", queries, ["d=floor", "et=thermo"]))
        check.eq(payload, b'</t>;ct=0;rt="temperature"')
        check.eq((registration.location, registration.error), (("reg", "7", ""), None))
        run(device, registration, clock, 73000)
        check.eq(directory.asked(), ["register"])
        run(device, registration, clock, 2000)
        check.eq(directory.seen, [("update", (), b"")])
        run(device, registration, clock, 300000)
        check.eq(directory.asked(), ["update"] * 5)


def test_registration_while_it_runs_the_device_serves():
    """RFC 9176: a sensor registers without waiting"""
    with fake.Clock() as clock:
        hub, directory, device = fleet()
        registration = Registration(device, "coap://192.0.2.200", "node1", lt_s=100)
        hub.down = True
        run(device, registration, clock, 30000)
        hub.down = False
        client = hub.host("192.0.2.50", is_server=False)
        record = client.send(coap.Message(coap.GET, uri="coap://192.0.2.1/t"))
        client.process(0)
        device.process(registration.tick())
        client.process(0)
        check.eq((record.response.message.payload, registration.location), (b"temperature", None))


def test_registration_when_the_resource_is_named_then_it_is_not_looked_for():
    """RFC 9176 section 4.1: the directory's path is configured"""
    with fake.Clock() as clock:
        hub, directory, device = fleet()
        registration = Registration(device, "coap://192.0.2.200/rd?x=1", "node1", base="coap://name")
        run(device, registration, clock, 1000)
        check.eq(directory.seen[0][1], ("x=1", "ep=node1", "lt=90000", "base=coap://name"))
        check.eq([sent[1] for sent in hub.sent], [coap.POST, coap.CREATED])


def test_registration_when_a_group_is_asked_then_the_first_directory_that_answers():
    """RFC 9176 section 4.1: a directory found by multicast, among hosts that have none"""
    with fake.Clock() as clock:
        hub = Hub()
        raw_host(hub, "192.0.2.3", text_of("</x>;rt=core.rd-lookup-res"), GROUP)
        raw_host(hub, "192.0.2.4", text_of("garbage"), GROUP)
        directory = Directory(hub, group=GROUP, path="some/rd")
        raw_host(hub, "192.0.2.5", text_of("<http://x/rd>;rt=core.rd"), GROUP)
        device = sensor_host(hub, "192.0.2.1", "temperature", is_server=False)
        registration = Registration(device, "coap://" + GROUP, "node1", lt_s=100)
        resolve = device.resolve
        names = []

        def note(remote):
            if isinstance(remote, str):
                names.append(remote)
            return resolve(remote)

        device.resolve = note
        run(device, registration, clock, 5500)
        check.eq((directory.asked(), registration.location), (["register"], ("reg", "7", "")))
        run(device, registration, clock, 76000)
        check.eq(directory.asked(), ["update"])
        check.eq(names, [GROUP + ":5683"])  # what was sent later went to the address that answered


def test_registration_when_it_is_removed_then_the_directory_is_told_and_nothing_follows():
    """RFC 9176 section 5.3.2"""
    with fake.Clock() as clock:
        hub, directory, device = fleet()
        registration = Registration(device, "192.0.2.200", "node1", lt_s=100)
        run(device, registration, clock, 1000)
        registration.remove()
        while registration.location:
            device.process(registration.tick())
        check.eq(directory.asked(), ["register", "remove"])
        check.eq(registration.tick(), None)
        run(device, registration, clock, 200000)
        check.eq((directory.asked(), registration.error), ([], None))


def test_registration_when_it_is_removed_early_or_in_vain_then_it_ends():
    """RFC 9176 section 5.3.2: before it was registered, while a request is open, with the directory gone"""
    with fake.Clock() as clock:
        hub, directory, device = fleet()
        registration = Registration(device, "192.0.2.200", "node1")
        registration.remove()
        check.eq((registration.tick(), directory.asked()), (None, []))
        registration = Registration(device, "192.0.2.200", "node1")
        check.eq(registration.tick(), 0)
        registration.remove()
        check.eq((registration.tick(), device.next_event_ms()), (None, None))
        registration = Registration(device, "192.0.2.200", "node1", lt_s=100)
        run(device, registration, clock, 1000)
        hub.down = True
        registration.remove()
        run(device, registration, clock, 100000)
        check.eq((registration.location, type(registration.error), registration.tick()), (None, coap.Timeout, None))
        hub.down = False
        run(device, registration, clock, 100000)
        check.eq(directory.asked(), ["register"])


def test_registration_when_the_directory_has_forgotten_it_then_it_registers_anew():
    """RFC 9176 section 5.3.1: 4.04 to an update"""
    with fake.Clock() as clock:
        _, directory, device = fleet()
        registration = Registration(device, "192.0.2.200", "node1", lt_s=100)
        run(device, registration, clock, 1000)
        directory.codes = [coap.NOT_FOUND]
        run(device, registration, clock, 76000)
        check.eq(directory.asked(), ["register", "update", "register"])
        check.eq((registration.location, registration.error), (("reg", "7", ""), None))


def test_registration_when_it_is_refused_then_it_waits_longer_each_time():
    """RFC 9176 section 5: failures; Max-Age of a 5.03"""
    with fake.Clock() as clock:
        _, directory, device = fleet()
        directory.codes = [coap.BAD_REQUEST, coap.BAD_REQUEST, coap.NOT_FOUND]
        registration = Registration(device, "192.0.2.200", "node1", lt_s=100)
        run(device, registration, clock, 1000)
        check.eq(str(registration.error), "the directory answered 4.00 Bad Request")
        seconds = [0] if directory.asked() else []
        for second in range(1, 60):
            run(device, registration, clock, 1000)
            if directory.asked():
                seconds.append(second)
        check.eq((seconds, registration.error), ([0, 8, 24, 56], None))
        directory.codes = [coap.BAD_REQUEST]
        run(device, registration, clock, 74000)
        check.eq((directory.asked(), registration.location), (["update"], None))
        run(device, registration, clock, 8000)
        check.eq((directory.asked(), registration.error), (["register"], None))


def test_registration_when_the_directory_is_busy_then_after_its_max_age():
    """RFC 7252 section 5.9.3.4: 5.03 with Max-Age"""
    with fake.Clock() as clock:
        _, directory, device = fleet()

        def busy(request, response):
            response.opt.max_age = 500
            directory.codes.append(0)
            return coap.SERVICE_UNAVAILABLE

        directory.endpoint.resource("busy").post(busy)
        registration = Registration(device, "coap://192.0.2.200/busy", "node1")
        run(device, registration, clock, 499000)
        check.eq(len(directory.codes), 1)
        run(device, registration, clock, 2000)
        check.eq(len(directory.codes), 2)


def test_registration_when_nobody_answers_then_it_goes_on_trying_and_recovers():
    """RFC 9176 section 5: a lost network"""
    with fake.Clock() as clock:
        hub, directory, device = fleet()
        registration = Registration(device, "192.0.2.200", "node1", lt_s=600)
        hub.down = True
        run(device, registration, clock, 95000)
        check.eq((registration.location, type(registration.error)), (None, coap.Timeout))
        hub.down = False
        run(device, registration, clock, 130000)
        check.eq((registration.error, directory.asked()), (None, ["register"]))
        hub.down = True
        run(device, registration, clock, 450000 + 95000)
        check.eq((registration.location, type(registration.error)), (None, coap.Timeout))
        hub.down = False
        run(device, registration, clock, 130000)
        check.eq((registration.error, directory.asked()), (None, ["register"]))


def test_registration_when_the_name_is_not_known_then_it_is_tried_again():
    """RFC 9176: a name that does not resolve"""
    with fake.Clock() as clock:
        hub, directory, device = fleet()
        resolve = device.resolve

        def fail(remote):
            if isinstance(remote, str):
                raise OSError("no such name")
            return remote

        registration = Registration(device, "coap://192.0.2.200", "node1")
        device.resolve = fail
        run(device, registration, clock, 1000)
        check.eq((str(registration.error), registration.location), ("no such name", None))
        device.resolve = resolve
        run(device, registration, clock, 8000)
        check.eq((registration.error, directory.asked()), (None, ["register"]))


def test_registration_when_the_directory_lies_then_it_fails_and_goes_on():
    """RFC 9176: hostile directories: no Location-Path, other schemes, paths that cannot be sent"""
    long_path = "/" + "/".join(["x" * 250] * 3)
    documents = (
        "</rd>;rt=core.rd",
        "<http://192.0.2.3/rd>;rt=core.rd",
        "<coap://@@/rd>;rt=core.rd",
        "<coap://192.0.2.200/r#d>;rt=core.rd",
        "<coap://192.0.2.200/%s>;rt=core.rd" % ("x" * 300),
        "<%s>;rt=core.rd" % long_path,
        "<coaps://192.0.2.200/rd>;rt=core.rd",
        "</%>;rt=core.rd",
        "no links",
    )
    for document in documents:
        with fake.Clock() as clock:
            hub = Hub()
            liar = raw_host(hub, "192.0.2.3", text_of(document))
            liar.resource("rd").post(text_of(coap.CREATED))
            device = sensor_host(hub, "192.0.2.1", "temperature", is_server=False, datagram_len=800)
            registration = Registration(device, "192.0.2.3", "node1")
            run(device, registration, clock, 20000)
            assert isinstance(registration.error, (coap.Error, ValueError, OSError)), document
            check.eq(registration.location, None, document)


def test_registration_when_the_location_is_not_utf_8_then_it_fails_and_goes_on():
    """RFC 7252 section 5.10.1: hostile directories"""
    with fake.Clock() as clock:
        hub = Hub()
        liar = raw_host(hub, "192.0.2.3", text_of("</rd>;rt=core.rd"))
        liar.resource("rd").post(lambda request, response: response.add_option(8, b"\xff") and coap.CREATED)
        device = sensor_host(hub, "192.0.2.1", "temperature", is_server=False)
        registration = Registration(device, "192.0.2.3", "node1")
        run(device, registration, clock, 20000)
        check.eq((type(registration.error), registration.location), (coap.FormatError, None))


def test_registration_when_resources_are_added_then_the_next_update_lists_them():
    """RFC 9176 section 5: registering again replaces the links"""
    with fake.Clock() as clock:
        _, directory, device = fleet()
        registration = Registration(device, "192.0.2.200", "node1", lt_s=100)
        run(device, registration, clock, 1000)
        device.resource("led").get(text_of("on"))
        run(device, registration, clock, 76000)
        check.eq(directory.seen[-1][2], b'</t>;ct=0;rt="temperature",</led>')
        check.eq(directory.asked(), ["register", "register"])
        run(device, registration, clock, 76000)
        check.eq(directory.asked(), ["update"])


def test_registration_when_links_or_arguments_do_not_fit_then_value_error():
    """RFC 9176 section 5: ranges of ep and lt; a registration is one datagram"""
    with fake.Clock() as clock:
        _, _, device = fleet()
        for ep in ("", "x" * 64, "\u00e4" * 32):
            check.raises(ValueError, Registration, device, "192.0.2.200", ep)
        for lt_s in (0, -1, 1 << 32):
            check.raises(ValueError, Registration, device, "192.0.2.200", "node1", lt_s)
        # a float was taken, and came out of tick() as TypeError when the directory had answered
        check.raises(TypeError, Registration, device, "192.0.2.200", "node1", 3600.0, contains="lt_s is an int")
        check.raises(ValueError, Registration, device, "coap://192.0.2.200#x", "node1")
        check.raises(ValueError, Registration, device, "192.0.2.200", "node1", title="x" * 256)
        registration = Registration(device, "192.0.2.200", "\u00e4" * 31, 0xFFFFFFFF)
        run(device, registration, clock, 1000)
        assert registration.location, registration.error
        assert 224000000 < registration.tick() <= 225000000
        registration = Registration(device, "192.0.2.200", "node1", 100)
        run(device, registration, clock, 1000)
        for n in range(40):
            device.resource("resource/%d" % n, rt="temperature")
        check.raises(ValueError, Registration, device, "192.0.2.200", "node1", contains="datagram_len")
        check.raises(ValueError, run, device, registration, clock, 76000, contains="datagram_len")


def test_names_when_imported_then_no_others_than_documented():
    """The interface"""
    names = [name for name in dir(coap_links) if name[0] != "_" and name not in ("const", "coap", "annotations")]
    check.eq(sorted(names), ["Link", "Registration", "discover", "find", "parse"])
