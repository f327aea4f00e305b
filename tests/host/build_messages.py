"""Builds messages with our API on either interpreter: python tests/host/build_messages.py < lines

A line holds code, type, message ID, token, payload and options, for instance

    1 0 4660 7431 - 11:s61 12:u50 5:e 4:b00ff

Bytes are hexadecimal digits, "-" if there are none. An option is its number, a letter for the type of the value given
to the API (s str, u int, e True, b bytes) and the value. Prints the encoded message in hexadecimal digits.
"""

import sys
from binascii import hexlify, unhexlify

import coap

NAMES = {
    1: "if_match", 3: "uri_host", 4: "etags", 5: "if_none_match", 6: "observe", 7: "uri_port", 8: "location_path",
    9: "oscore", 11: "uri_path", 12: "content_format", 14: "max_age", 15: "uri_query", 16: "hop_limit", 17: "accept",
    20: "location_query", 23: "block2", 27: "block1", 28: "size2", 35: "proxy_uri", 39: "proxy_scheme", 60: "size1",
    252: "echo", 258: "no_response", 292: "request_tag",
}  # fmt: skip
REPEATED = 1, 4, 8, 11, 15, 20, 292


def data_of(digits):
    """The bytes of a field."""
    return b"" if digits == "-" else unhexlify(digits)


def option_of(word):
    """(number, value) of an option of a line."""
    number, _, value = word.partition(":")
    kind, value = value[0], value[1:]
    if kind == "u":
        return int(number), int(value)
    if kind == "e":
        return int(number), True
    return int(number), str(unhexlify(value), "utf-8") if kind == "s" else unhexlify(value)


def add_one_by_one(message, options):
    """Options in the order of the line, whatever their numbers."""
    for number, value in options:
        message.add_option(number, value)


def replace_each(message, options):
    """All values of a number at once."""
    for number in {number for number, _ in options}:
        message.replace_option(number, *[value for other, value in options if other == number])


def assign_by_name(message, options):
    """Options with a name by it."""
    for number in {number for number, _ in options}:
        values = [value for other, value in options if other == number]
        if number in NAMES:
            setattr(message.opt, NAMES[number], values if number in REPEATED else values[0])
        else:
            message.replace_option(number, *values)


def build(line):
    """The message of a line, its options set in one of three ways, as bytes."""
    words = line.split()
    code, mtype, mid = [int(word) for word in words[:3]]
    token, payload = [data_of(word) for word in words[3:5]]
    message = coap.Message(code, mtype=mtype, mid=mid, token=token, payload=payload)
    (add_one_by_one, replace_each, assign_by_name)[mid % 3](message, [option_of(word) for word in words[5:]])
    return message.encode()


def main():
    """Build what standard input asks for."""
    for line in sys.stdin:
        print(hexlify(build(line)).decode())


if __name__ == "__main__":
    main()
