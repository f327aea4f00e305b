// Serves a text of 5 bytes at every path with node-coap: node serve_node.js PORT
"use strict";

const coap = require("coap");

const server = coap.createServer((request, response) => {
  response.setOption("Content-Format", "text/plain");
  response.end("22.5C");
});
server.listen(Number(process.argv[2]), "127.0.0.1");
