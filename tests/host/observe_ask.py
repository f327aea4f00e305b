"""A client with our library that observes, for test_observe_peers.py, on CPython and MicroPython.

    PYTHONPATH=lib python tests/host/observe_ask.py URI

Prints a line for each notification: code, first 20 bytes of the payload, its length. Cancels when the payload is
`cancel`, stops listening when it is `forget`; prints `end` and why when the observation has ended.
"""

import sys

import coap
import coap_block
import coap_observe

QUICK = coap.Tuning(ack_timeout_ms=150, max_retransmit=3)

endpoint = coap.Endpoint(tuning=QUICK)
coap_observe.attach(endpoint)
coap_block.attach(endpoint)


def show(message):
    payload = str(message.payload[:20], "utf-8")
    print("%d.%02d %s %d" % (message.code >> 5, message.code & 31, payload, len(message.payload)))
    if payload == "cancel":
        observation.cancel()
    elif payload == "forget":
        observation.record.cancel()


observation = coap_observe.observe(endpoint, sys.argv[1], show)
while not observation.is_done():
    endpoint.process(50)
print("end", observation.error and observation.error.__name__)
while True:  # a Reset for what still comes
    endpoint.process(50)
