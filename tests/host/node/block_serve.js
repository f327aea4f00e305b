// A server with node-coap for test_block_peers.py: node tests/host/node/block_serve.js PORT
"use strict";

const coap = require("coap");

const large = Buffer.from(Array.from({ length: 2000 }, (_, i) => (i * 7) % 251));
const stored = { "/large": large, "/large-update": Buffer.alloc(0), "/large-create": Buffer.alloc(0) };

const server = coap.createServer((request, response) => {
  const body = Buffer.from(request.payload);
  if (request.method === "GET") {
    response.end(stored[request.url]);
  } else if (request.url === "/large-post") {
    response.code = "2.04";
    response.end(body.reverse());
  } else {
    stored[request.url] = body;
    response.code = request.method === "PUT" ? "2.04" : "2.01";
    response.end();
  }
});
server.listen(Number(process.argv[2]), "127.0.0.1");
