// A client with node-coap for test_block_peers.py: node tests/host/node/block_ask.js METHOD URI SZX < body
// SZX -1: no wish. Prints code and body, in hexadecimal digits.
"use strict";

const fs = require("fs");

const coap = require("coap");

const [method, uri, szx] = process.argv.slice(2);
const { hostname, port, pathname } = new URL(uri);
const body = fs.readFileSync(0);
const request = coap.request({ hostname, port, pathname, method });
if (body.length) {
  request.setOption("Block1", Buffer.from([Number(szx) < 0 ? 6 : Number(szx)]));
} else if (Number(szx) >= 0) {
  request.setOption("Block2", Buffer.from([Number(szx)]));
}
request.on("response", (response) => {
  console.log(response.code, response.payload.toString("hex"));
  process.exit(0);
});
request.end(body);
