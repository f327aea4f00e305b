"""A server that joins a group, for test_join.py, on CPython and MicroPython.

    MICROPYPATH=lib micropython tests/host/join_serve.py PORT HOST GROUP INTERFACE TIMES

INTERFACE: an IPv4 address, for IPv6 a number, or "-" for what the system chooses; TIMES: how often it joins.
Prints how many sockets it has, and whether another endpoint finds the port taken; then serves until it is killed.
"""

import sys

import coap

LEISURE_MS = 300


def is_taken(port, host):
    """Whether an endpoint on the same port is refused."""
    try:
        coap.Endpoint(port=port, host=host).close()
    except OSError:
        return True
    return False


def chosen(word):
    """The interface as join() takes it."""
    if word == "-":
        return None
    return int(word) if word.isdigit() else word


def main(port, host, group, interface, times):
    endpoint = coap.Endpoint(port=int(port), host=host, tuning=coap.Tuning(leisure_ms=LEISURE_MS))
    executions = []
    counter = endpoint.resource("count")

    @counter.get
    def count(request, response):
        executions.append(1)
        return str(len(executions))

    taken = is_taken(int(port), host)
    for _ in range(int(times)):
        endpoint.join(group, chosen(interface))
    print("sockets=%d taken=%s,%s" % (len(endpoint._polled), taken, is_taken(int(port), host)))
    while True:
        endpoint.process(1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
