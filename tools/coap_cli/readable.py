"""Payloads as text for people: JSON, CBOR (diagnostic notation, RFC 8949 section 8), link format, text, else bytes.

What a peer sent reaches a terminal only through `printable`: its control characters are written out.
"""

import json
import string

import coap_links

from . import formats

LINE_LEN = 76  # what is shorter stays on one line
DUMP_WIDTH = 16
KEPT = "\n\t"
SHOWN = frozenset(string.ascii_letters + string.digits + string.punctuation + " ")
# Tags that cbor2 would make Python objects of; two pairs of them are references, by which few bytes become many
KEPT_TAGS = (0, 1, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000)


def printable(text):
    """`text` with every character written out that is neither printable nor a line end or tab."""
    return "".join([c if c.isprintable() or c in KEPT else c.encode("unicode_escape").decode() for c in text])


def hex_dump(payload):
    """The bytes in lines of offset, hexadecimal digits and characters."""
    lines = []
    for at in range(0, len(payload), DUMP_WIDTH):
        piece = payload[at : at + DUMP_WIDTH]
        characters = "".join([chr(b) if chr(b) in SHOWN else "." for b in piece])
        lines.append(f"{at:06x}  {piece.hex(' '):<{3 * DUMP_WIDTH - 1}}  {characters}")
    return "\n".join(lines)


# ---- CBOR ----


def from_cbor(payload):
    """The CBOR item in `payload` as Python objects, tags as cbor2.CBORTag; raises ValueError."""
    import cbor2

    def keep(tag):
        return lambda value, is_immutable: cbor2.CBORTag(tag, value)

    try:
        return cbor2.loads(payload, semantic_decoders={tag: keep(tag) for tag in KEPT_TAGS}, max_depth=50)
    except Exception as error:  # a peer chose the bytes, and cbor2 raises more than its own errors
        raise ValueError(f"the payload is no CBOR: {error}") from None


def diagnostic(item, indent=0, is_one_line=False):
    """A CBOR item in diagnostic notation."""
    if isinstance(item, dict):
        pairs = [f"{diagnostic(key)}: {diagnostic(item[key], indent + 2, is_one_line)}" for key in item]
        return bracketed("{", pairs, "}", indent, is_one_line)
    if isinstance(item, (list, tuple)):
        parts = [diagnostic(part, indent + 2, is_one_line) for part in item]
        return bracketed("[", parts, "]", indent, is_one_line)
    if isinstance(item, bytes):
        return f"h'{item.hex()}'"
    if isinstance(item, str):
        return json.dumps(item, ensure_ascii=False)
    if hasattr(item, "tag"):
        return f"{item.tag}({diagnostic(item.value, indent, is_one_line)})"
    if hasattr(item, "value"):
        return f"simple({item.value})"
    return {"True": "true", "False": "false", "None": "null", "nan": "NaN", "inf": "Infinity"}.get(str(item), str(item))


def bracketed(left, parts, right, indent, is_one_line):
    """The parts in brackets: on one line where they fit."""
    line = left + ", ".join(parts) + right
    if is_one_line or len(line) + indent <= LINE_LEN and "\n" not in line:
        return line
    pad = "\n" + " " * indent
    return left + ",".join([pad + "  " + part for part in parts]) + pad + right


# ---- the others ----


def json_text(payload, is_one_line):
    """JSON laid out anew; raises ValueError."""
    try:
        item = json.loads(payload)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    line = json.dumps(item, ensure_ascii=False)
    return line if is_one_line or len(line) <= LINE_LEN else json.dumps(item, ensure_ascii=False, indent=2)


def link_text(payload, is_one_line):
    """Link format with a line for each link."""
    lines = [link_line(link) for link in coap_links.parse(payload)]
    return (", " if is_one_line else ",\n").join(lines)


def link_line(link):
    """A link as in link format."""
    line = f"<{link.target}>"
    for name, values in link.attributes.items():
        for value in values:
            line += f";{name}={value}" if value.isascii() and value.isdigit() else f';{name}="{value}"'
        line += "" if values else f";{name}"
    return line


def readable(payload, content_format, is_one_line=False):
    """(text, note) of a payload: what to show, without a line end, and None or what is wrong with it."""
    note = None
    try:
        if formats.is_cbor(content_format):
            return printable(diagnostic(from_cbor(payload), 0, is_one_line)), None
        if formats.is_json(content_format):
            return printable(json_text(payload, is_one_line)), None
        if content_format == 40:
            return printable(link_text(payload, is_one_line)), None
    except Exception as error:  # a peer chose the bytes: whatever is wrong with them, they are shown as they are
        note = f"the payload is no {formats.name_of(content_format)}: {error}"
    return as_text(payload, content_format, is_one_line), note


def as_text(payload, content_format, is_one_line):
    """The payload as text if it is that, else its bytes."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = "\0"
    if content_format == 0 and text != "\0" or all([c.isprintable() or c in KEPT for c in text]):
        text = printable(text)
        return text.replace("\n", "\\n") if is_one_line else text.removesuffix("\n")
    return payload.hex() if is_one_line else hex_dump(payload)
