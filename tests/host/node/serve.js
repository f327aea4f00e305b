// A server with node-coap for the interop tests: node tests/host/node/serve.js PORT
"use strict";

const coap = require("coap");

const SLOW_MS = 200; // more than the 50 ms after which node-coap acknowledges without the response
let text = Buffer.from("hello");

function answerText(request, response) {
  if (request.method === "PUT") {
    text = request.payload;
    response.code = "2.04";
    response.end();
  } else {
    response.setOption("Content-Format", "text/plain");
    response.end(text);
  }
}

function answerSlow(request, response) {
  response.setOption("Content-Format", "text/plain");
  setTimeout(() => response.end("done"), SLOW_MS);
}

function answerUnknown(request, response) {
  response.code = "4.04";
  response.end();
}

const resources = { "/t": answerText, "/slow": answerSlow };
const server = coap.createServer((request, response) => {
  (resources[request.url] || answerUnknown)(request, response);
});
server.listen(Number(process.argv[2]), "127.0.0.1");
