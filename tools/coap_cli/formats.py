"""Content-Formats by name and number (the registry of RFC 7252 section 12.3)."""

NAMES = {
    0: "text/plain",
    40: "application/link-format",
    41: "application/xml",
    42: "application/octet-stream",
    47: "application/exi",
    50: "application/json",
    51: "application/json-patch+json",
    52: "application/merge-patch+json",
    60: "application/cbor",
    61: "application/cwt",
    62: "application/multipart-core",
    63: "application/cbor-seq",
    101: "application/cose-key",
    102: "application/cose-key-set",
    110: "application/senml+json",
    111: "application/sensml+json",
    112: "application/senml+cbor",
    113: "application/sensml+cbor",
    114: "application/senml-exi",
    115: "application/sensml-exi",
    256: "application/coap-group+json",
    310: "application/senml+xml",
    311: "application/sensml+xml",
}
SHORT = {"text": 0, "links": 40, "xml": 41, "octets": 42, "json": 50, "cbor": 60}
CBOR_KEYS = (61, 101, 102)  # CBOR inside, though their names do not say so


def number_of(text):
    """The number of a Content-Format given as a number, a short name or a media type; raises ValueError."""
    if text.isascii() and text.isdigit():
        if int(text) > 65535:
            raise ValueError(f"a Content-Format is 0 to 65535, not {text}")
        return int(text)
    names = SHORT | {name: number for number, name in NAMES.items()}
    names |= {name.removeprefix("application/"): number for name, number in names.items()}
    if text.lower() in names:
        return names[text.lower()]
    raise ValueError(f"no Content-Format is called {text}; write its number, or {', '.join(SHORT)}, or a media type")


def name_of(number):
    """The media type of a Content-Format, or its number as text."""
    return NAMES.get(number, str(number))


def is_json(number):
    """Whether the payload is JSON."""
    return name_of(number).endswith(("/json", "+json"))


def is_cbor(number):
    """Whether the payload is one item of CBOR."""
    return name_of(number).endswith(("/cbor", "+cbor")) or number in CBOR_KEYS
