"""Links (RFC 6690), discovery of one host or of many, and registration with a resource directory (RFC 9176).

    import coap
    import coap_links

    with coap.Endpoint() as endpoint:
        for link in coap_links.discover(endpoint, "192.0.2.1", rt="temperature"):
            print(endpoint.get(link.uri).payload)
        for link in coap_links.discover(endpoint, "224.0.1.187"):  # every host that answers
            print(link.uri, link.rt)

A server has itself listed in a directory, and goes on serving:

    registration = coap_links.Registration(endpoint, "coap://192.0.2.9", "node1", lt_s=3600)
    while True:
        endpoint.process(registration.tick())

What a directory lists is parsed like any other links, here all temperatures of a fleet:

    response = endpoint.get("coap://192.0.2.9/resource-lookup/?rt=temperature")
    links = coap_links.parse(response.payload)

Beside coap.py this file is optional. Blocks are not used: what is listed has to fit into one datagram.
"""

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


import coap

# The values of coap.py: MicroPython would look coap.GET up at each use
_GET = const(1)
_POST = const(2)
_DELETE = const(4)
_CONTENT = const(69)
_NOT_FOUND = const(132)
_SERVICE_UNAVAILABLE = const(163)
_LINKS = const(40)

_URI_QUERY = const(15)
_GROUP_MS = const(6000)  # hosts answer a group within DEFAULT_LEISURE, 5 s (RFC 7252 section 8.2)
_HELD = const(8)  # as an Endpoint holds while request() blocks
_SPACES = b" \t\r\n"
# Attributes that a link has once: what follows the first is ignored (RFC 6690 section 2.2)
_ONCE = ("rt", "if", "sz", "rel", "title", "title*", "media", "type")


class Link:
    """A link as parse returns it.

    target      the URI between < and >, as written
    attributes  a dict: name in lower case -> list of values, str, in the order of the link; an attribute without
                value has none, so that "obs" is []
    base        scheme and host for a target that is only a path, "coap://192.0.2.1"; empty if that is not known
    """

    def __init__(self, target, attributes, base=""):
        self.target = target
        self.attributes = attributes
        self.base = base

    def words(self, name):
        """The words of all values of attribute `name`, a list of str, empty if there is none: ct="0 50" has two."""
        return " ".join(self.attributes.get(name, ())).split()

    @property
    def rt(self):
        """The resource types, a list of str."""
        return self.words("rt")

    @property
    def if_(self):
        """The interface descriptions, a list of str."""
        return self.words("if")

    @property
    def uri(self):
        """The target as an absolute URI to send requests to; as written if no base is known."""
        head = self.target.split("/")[0].split("?")[0]
        if not self.base or ":" in head:
            return self.target
        if self.target[:2] == "//":
            return self.base.split("//")[0] + self.target
        return self.base + ("" if self.target[:1] == "/" else "/") + self.target

    def __repr__(self):
        return "Link(%r, %r, %r)" % (self.target, self.attributes, self.base)


# ---- link format ----


def parse(payload, base=""):
    """The links in a document of RFC 6690, bytes or str, as a list of Link in its order; `base` becomes theirs.

    Spaces and line ends around "," ";" and "=" are passed over. A link with three attributes takes about 330 bytes
    on a board.
    Raises coap.FormatError for anything else that is no link format, a document cut off in the middle too.
    """
    data = payload.encode() if isinstance(payload, str) else bytes(payload)
    links = []
    at = _skip(data, 0)
    while at < len(data) or links:
        stop = data.find(b">", at)
        if data[at : at + 1] != b"<" or stop < 0:
            raise coap.FormatError("no link at byte %d" % at)
        link = Link(_text(data, at + 1, stop), {}, base)
        links.append(link)
        at = _skip(data, stop + 1)
        while data[at : at + 1] == b";":
            at = _parse_attribute(data, _skip(data, at + 1), link.attributes)
        if at == len(data):
            break
        if data[at : at + 1] != b",":
            raise coap.FormatError("neither , nor ; at byte %d of the links" % at)
        at = _skip(data, at + 1)
    return links


def _parse_attribute(data, at, attributes):
    """Put the attribute at offset `at` into `attributes`; returns the offset behind it and its spaces."""
    stop = _token_end(data, at, b'=,;<>"')
    if stop == at:
        raise coap.FormatError("an attribute without a name at byte %d of the links" % at)
    name = _text(data, at, stop).lower()
    is_new = name not in attributes
    values = attributes.setdefault(name, [])
    at = _skip(data, stop)
    if data[at : at + 1] != b"=":
        return at
    at = _skip(data, at + 1)
    if data[at : at + 1] == b'"':
        value, at = _quoted(data, at + 1)
    else:
        stop = _token_end(data, at, b',;"')
        value = _text(data, at, stop)
        at = stop
    if is_new or name not in _ONCE:
        values.append(value)
    return _skip(data, at)


def _quoted(data, at):
    """(the text up to the closing quote, the offset behind it); a backslash takes the next byte as it is."""
    text = bytearray()
    quote = -1
    while True:
        if quote < at:
            quote = data.find(b'"', at)
        if quote < 0:
            raise coap.FormatError("a quote in the links does not end")
        escape = data.find(b"\\", at, quote)
        if escape < 0:
            text += data[at:quote]
            return _text(text, 0, len(text)), quote + 1
        text += data[at:escape] + data[escape + 1 : escape + 2]
        at = escape + 2


def _text(data, start, stop):
    """The bytes as str; raises FormatError."""
    try:
        return str(data[start:stop], "utf-8")
    except ValueError:
        raise coap.FormatError("the links are not UTF-8 at byte %d" % start) from None


def _skip(data, at):
    """The offset of the first byte from `at` that is no space."""
    while at < len(data) and data[at] in _SPACES:
        at += 1
    return at


def _token_end(data, at, ends):
    """The offset of the first byte from `at` that is a space or one of `ends`."""
    while at < len(data) and data[at] not in ends and data[at] not in _SPACES:
        at += 1
    return at


def find(links, **filters):
    """Those of `links` that pass all filters, in their order (RFC 6690 section 4.1).

    A filter is the name of an attribute, `if_` for "if", or href, and the value that is to be there: the whole
    value or one word of it. "temp*" is a prefix, an int is written out (ct=40), True only asks for the attribute, None
    is no filter.
    """
    return [link for link in links if _passes(link, filters)]


def _passes(link, filters):
    for key in filters:
        name = key.rstrip("_")
        values = [link.target] if name == "href" else link.attributes.get(name)
        wanted = filters[key]
        if wanted is None:
            continue
        if values is None or wanted is not True and not _has(values + link.words(name), str(wanted)):
            return False
    return True


def _has(values, wanted):
    """Whether one of `values` is `wanted`, or begins with it up to its *."""
    for value in values:
        if value == wanted or wanted[-1:] == "*" and value.startswith(wanted[:-1]):
            return True
    return False


# ---- discovery ----


def _discovery(uri, filters):
    """The request that asks `uri`, of a host, for the links that pass the filters."""
    request = coap.Message(_GET, uri=uri + "/.well-known/core")
    for key in filters:
        if filters[key] is not True and filters[key] is not None:  # RFC 6690 has no query for that
            request.add_option(_URI_QUERY, "%s=%s" % (key.rstrip("_"), filters[key]))
    return request


def _base(uri):
    """Scheme and authority of `uri`, which may be without its scheme: "host[:port]/path"."""
    parts = uri.split("/")
    return "/".join(parts[:3]) if "://" in uri else "coap://" + parts[0]


def _is_first_block(response):
    """Whether this is not all of the document: more blocks follow (RFC 7959)."""
    return (response.opt.block2 or 0) & 8 != 0


def _links_of(response, filters):
    """The links of a discovery's response that pass the filters; raises coap.Error for one that has none."""
    if response.code == _NOT_FOUND:  # an answer too: nothing is listed
        return []
    if response.code != _CONTENT:
        raise coap.Error("the host answered " + coap.code_text(response.code))
    if _is_first_block(response):
        raise coap.Error("only the first block came")
    try:
        base = _base(response.get_request_uri())
    except ValueError:  # the address is one of a transport that no URI can have
        base = ""
    return find(parse(response.payload, base), **filters)


def discover(endpoint, host, timeout_ms=None, most=16, **filters):
    """Ask a host, or a group of hosts, what it has; returns a list of Link (RFC 6690, RFC 7252 section 7).

      endpoint    the coap.Endpoint to ask from; it goes on serving meanwhile
      host        "host[:port]" or a URI, whose path does not count; or a group: "224.0.1.187", on an IPv6 endpoint
                  "[ff02::fd]"
      timeout_ms  default: 93 s for a host; for a group 6 s, after which the links of all answers are returned. With
                  coap_block attached as long again at most for each block of a list that is longer than a datagram
      most        answers taken from a group, after which it ends earlier; 16 at most unless the Endpoint was
                  made with more group_responses
      filters     see find; they are sent as the query, and applied to what comes

    Each link has its host in `base` and `uri`. An answer of a group's host that cannot be read is left out.
    Of one host it raises coap.Timeout, Reset, Rejected, FormatError for what is no link format, and coap.Error for
    an answer that has no links; of both OSError if the name is not known, ValueError, coap.Full, and RuntimeError
    in a handler. While a group answers, an endpoint without resources refuses requests with 5.03; up to 8 responses to
    others' requests are held for process().
    """
    request = _discovery(_base(host), filters)
    request.remote = endpoint.resolve(request.remote)
    if not coap.is_multicast(request.remote):
        queries = request.opt.uri_query
        response = endpoint.get(_base(host) + "/.well-known/core", timeout_ms=timeout_ms, uri_query=queries)
        return _links_of(response, filters)
    timeout_ms = _GROUP_MS if timeout_ms is None else timeout_ms
    record = endpoint.send(request, None, timeout_ms)
    others = []
    try:
        while not record.is_done() and len(record.responses) < most:
            other = endpoint.process(endpoint.next_event_ms())
            if other is None or other.pertains_to is record:
                continue
            if other.pertains_to is None:
                other.respond(_SERVICE_UNAVAILABLE)
            elif len(others) < _HELD:
                others.append(other)
    finally:
        record.cancel()
        endpoint._held += others
    links = []
    for answer in record.responses:
        try:
            response = answer.message
            if _is_first_block(response):  # the rest is asked for of its host (RFC 7252 section 8.2)
                response = endpoint.get(response.get_request_uri(), timeout_ms=timeout_ms)
            links += _links_of(response, filters)
        except (coap.Error, OSError, ValueError):
            pass
    return links


# ---- registration with a resource directory ----

_FIND = const(0)  # look for the directory's rt=core.rd
_REGISTER = const(1)
_UPDATE = const(2)
_REMOVE = const(3)
_GONE = const(4)
_ROOM_LEN = const(256)  # kept free in a registration's datagram for header, path and query
_LOOK_MS = const(1000)  # how often an open request is looked at
_FIRST_RETRY_S = const(8)
_LAST_RETRY_S = const(3600)
_LONGEST_S = const(300000)  # much further apart ticks cannot be compared
_LONGEST_MS = const(300000000)


class Registration:
    """Keeps the resources of an endpoint listed in a resource directory (RFC 9176 section 5), without waiting.

    Registration(endpoint, directory, ep, lt_s=90000, **parameters)

      endpoint    the coap.Endpoint; its resources are listed, and it is where the directory says they are
      directory   "coap://host[:port]", which is asked for its rt=core.rd (section 4.1), or that resource's URI,
                  "coap://host/rd"; a group, "coap://224.0.1.190" or "coap://224.0.1.187": the first that answers
      ep          endpoint name, 1 to 63 bytes, its own for each device
      lt_s        lifetime in seconds, 1 to 4294967295: how long it stays listed after the device has vanished
      parameters  others of the registration by name: d="sector", et="type", base="coap://name:5683" where the
                  address that the directory sees is not the one to use

    Call tick() in the application's loop, as above. It registers, updates after three quarters of the lifetime (at
    least every 2.6 days), and registers anew where an update fails; new resources are listed with the next update.
    What fails is tried again after 8 s, then twice as long, up to an hour or the Max-Age of a 5.03.

      location    the path of the registration, a tuple of str; None while there is none
      error       None, or the exception that the latest attempt failed with: coap.Timeout, OSError, coap.Error, ...

    Raises ValueError for what cannot be registered: links that leave less than 256 bytes of the endpoint's
    datagram_len, for they have to fit into one datagram, a name or lifetime outside its range, a URI that is none.
    Keeps about 300 bytes on a board; while a request is open its record and datagram, too.
    """

    def __init__(self, endpoint, directory, ep, lt_s=90000, **parameters):
        if not 0 < len(ep.encode()) < 64:
            raise ValueError("an endpoint name has 1 to 63 bytes, not %d" % len(ep.encode()))
        coap._check("lt_s", lt_s, 1, 0xFFFFFFFF)
        directory = directory if "://" in directory else "coap://" + directory
        self.endpoint = endpoint
        self.location = self.error = None
        self.lt_s = lt_s
        self.queries = ["ep=" + ep, "lt=%d" % lt_s]
        for name in parameters:
            if parameters[name] is not None:
                self.queries.append("%s=%s" % (name, parameters[name]))
        self.directory = directory
        self._first = _REGISTER if directory[len(_base(directory)) :].strip("/") else _FIND
        self._begin()
        self._retry_s = _FIRST_RETRY_S
        self._listed = 0  # resources that the directory knows
        self.record = None  # of the open request
        self.until_ms = coap.ticks_ms()
        self._request(_REGISTER)

    def _begin(self):
        """Begin with the directory as given."""
        self.location = None
        self._step = self._first
        self.uri = self.directory  # of the directory's resource, once that is known
        self.remote = None  # the address that answered; None: that of `uri`

    def tick(self):
        """Do what is due; returns in how many ms it is to be called again, None after a removal: not any more.

        That, or less, is how long the application may wait in process. Raises ValueError if resources have been
        added that do not fit into the datagram.
        """
        if self._step == _GONE:
            return None
        now_ms = coap.ticks_ms()
        record = self.record
        if record is not None:
            if not record.is_done() and not (self._step == _FIND and self._find(record)):
                return _LOOK_MS
            self.record = None
            record.cancel()
            self.until_ms = coap.ticks_add(now_ms, min(self._take(record), _LONGEST_MS))
            return 0
        left_ms = coap.ticks_diff(self.until_ms, now_ms)
        if left_ms > 0:
            return left_ms
        self._send_due()
        return 0

    def remove(self):
        """Have the registration removed. It is gone when `location` is None; if that fails, when its lifetime ends.

        tick() sends the request, so the application goes on calling it until then.
        """
        if self.record is not None:
            self.record.cancel()
            self.record = None
        self._step = _GONE if self.location is None else _REMOVE
        self.until_ms = coap.ticks_ms()

    # -- requests

    def _send_due(self):
        """Send the request of this step; one that cannot be sent has failed."""
        if self._step == _UPDATE and self._listed != len(self.endpoint.resources):
            self._step = _REGISTER
        if self._step == _REGISTER:
            self._listed = len(self.endpoint.resources)
            self._links()
        try:
            request = self._request(self._step)
            remote = self.endpoint.resolve(self.remote or request.remote)
            is_group = coap.is_multicast(remote)
            self.record = self.endpoint.send(request, remote, _GROUP_MS if is_group else None)
        except (OSError, ValueError, coap.Error) as error:  # of what the directory gave as its address, too
            self.until_ms = coap.ticks_add(coap.ticks_ms(), self._reset(error))

    def _request(self, step):
        """The request of a step; raises ValueError."""
        if step == _FIND:
            return _discovery(_base(self.uri), {"rt": "core.rd*"})
        if step == _REGISTER:
            request = coap.Message(_POST, uri=self.uri, content_format=_LINKS, payload=self._links())
            for query in self.queries:
                request.add_option(_URI_QUERY, query)
            return request
        code = _POST if step == _UPDATE else _DELETE
        return coap.Message(code, uri=_base(self.uri), uri_path=self.location)

    def _links(self):
        """The links of the endpoint's resources but the first, which is the list of them; raises ValueError."""
        links = ",".join([resource.link for resource in self.endpoint.resources[1:] if resource.link]).encode()
        room_len = self.endpoint.datagram_len - _ROOM_LEN
        if len(links) > room_len:
            raise ValueError("the links have %d bytes; %d fit, see Endpoint(datagram_len=...)" % (len(links), room_len))
        return links

    # -- answers

    def _find(self, record):
        """Take the directory from the answers of `record`; whether one names it."""
        for answer in record.responses:
            try:
                links = _links_of(answer.message, {"rt": "core.rd"})
            except coap.Error:  # another of the group may do better
                continue
            for link in links:
                if link.uri[:7] == "coap://" or link.uri[:8] == "coaps://":
                    self.remote = answer.remote if _base(link.uri) == link.base else None
                    self.uri = link.uri
                    return True
        return False

    def _take(self, record):
        """Take the answer to the request of this step; returns in how many ms the next is due."""
        step = self._step
        if record.error or step == _REMOVE:
            return self._reset(record.error and record.error("the directory did not answer"))
        if step == _FIND:
            self._step = _REGISTER
            return 0 if self._find(record) else self._reset(coap.Error("no resource directory"))
        response = record.response.message
        if step == _UPDATE and response.code == _NOT_FOUND:  # it has forgotten us
            self._begin()
            return 0
        if response.code >> 5 != 2:
            wait_ms = self._reset(coap.Error("the directory answered " + coap.code_text(response.code)))
            return max(wait_ms, (response.opt.max_age or 0) * 1000)
        if step == _REGISTER:
            try:
                self.location = response.opt.location_path
            except coap.FormatError as error:
                return self._reset(error)
            if not self.location:
                return self._reset(coap.Error("the directory answered without Location-Path"))
            self.remote = record.remote
        self._step = _UPDATE
        self._retry_s = _FIRST_RETRY_S
        self.error = None
        return min(self.lt_s, _LONGEST_S) * 750  # three quarters of it, in ms

    def _reset(self, error):
        """Begin anew because of `error`, but end after a removal; returns in how many ms."""
        is_removed = self._step == _REMOVE
        self.error = error
        self._begin()
        if is_removed:
            self._step = _GONE
        retry_s = self._retry_s
        self._retry_s = min(2 * retry_s, _LAST_RETRY_S)
        return retry_s * 1000
