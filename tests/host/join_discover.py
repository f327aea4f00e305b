"""Discovers a group and asks the first link found, for test_join.py, on CPython and MicroPython.

    MICROPYPATH=lib micropython tests/host/join_discover.py GROUP

GROUP: as in a URI, "[ff02::fd%25eth0]" or "224.0.1.187". Prints the link's URI and the payload.
"""

import sys

import coap
import coap_links

TIMEOUT_MS = 20000  # with a busy computer


def main(group):
    with coap.Endpoint(host="::" if group[0] == "[" else "0.0.0.0") as endpoint:
        (link,) = coap_links.discover(endpoint, group, TIMEOUT_MS, most=1)
        print(link.uri, str(endpoint.get(link.uri, timeout_ms=TIMEOUT_MS).payload, "utf-8"))


if __name__ == "__main__":
    main(sys.argv[1])
