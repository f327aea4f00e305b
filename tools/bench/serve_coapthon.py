"""Serves a text of 5 bytes at /temp with CoAPthon3: serve_coapthon.py PORT"""

import logging
import sys

from coapthon.resources.resource import Resource
from coapthon.server.coap import CoAP

logging.disable()


class Temperature(Resource):
    def __init__(self, name="temp", coap_server=None):
        super().__init__(name, coap_server)
        self.payload = "22.5C"

    def render_GET(self, request):
        return self


server = CoAP(("127.0.0.1", int(sys.argv[1])))
server.add_resource("temp/", Temperature())
server.listen(10)
