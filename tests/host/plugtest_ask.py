"""The client of the plugtests with our library, on CPython and MicroPython.

    MICROPYPATH=lib micropython tests/host/plugtest_ask.py [ACK_TIMEOUT_MS] < request

Reads a request, a line of JSON as request_line in peers.py says; prints the response as it would be sent, in hex.
A CON is repeated after ACK_TIMEOUT_MS, that of the RFC if it is not given.
"""

import json
import sys

import coap

METHODS = {"get": coap.GET, "post": coap.POST, "put": coap.PUT, "delete": coap.DELETE}
TYPES = ("CON", "NON")
TIMEOUT_MS = 30000

fields = json.loads(sys.stdin.readline())
payload = bytes.fromhex(fields["payload"])
mtype = TYPES.index(fields["mtype"])
message = coap.Message(METHODS[fields["method"]], uri=fields["uri"], payload=payload, mtype=mtype)
if "accept" in fields:
    message.opt.accept = fields["accept"]
for number, value in fields.get("options", ()):
    message.add_option(number, bytes.fromhex(value))
endpoint = coap.Endpoint(tuning=coap.Tuning(ack_timeout_ms=int(sys.argv[1]) if sys.argv[1:] else 2000))
record = endpoint.send(message, timeout_ms=TIMEOUT_MS)
while not record.is_done():
    endpoint.process(100)
# A separate response is acknowledged by now; close() ends the socket.
print(record.response.message.encode().hex())
endpoint.close()
