// node-coap as observer and as observed, for test_observe_peers.py.
//     node tests/host/node/observe.js client URI    prints as observe_ask.py; at `cancel` it closes the stream
//     node tests/host/node/observe.js server PORT   a resource "dyn" that can be observed, PUT sets it
"use strict";

const coap = require("coap");

function show(response, payload) {
  console.log(`${response.code} ${payload.subarray(0, 20)} ${payload.length}`);
  if (payload.toString() === "cancel") {
    response.close();
  }
}

function observe(uri) {
  const { hostname, port, pathname } = new URL(uri);
  const request = coap.request({ hostname, port, pathname, observe: true });
  request.on("response", (response) => response.on("data", (payload) => show(response, payload)));
  request.on("error", (error) => console.log("end", error.message));
  request.end();
}

function serve(port) {
  let text = Buffer.from("0");
  const observers = new Set();
  const server = coap.createServer((request, response) => {
    if (request.method === "PUT") {
      text = request.payload;
      response.code = "2.04";
      response.end();
      observers.forEach((observer) => observer.write(text));
    } else if (request.headers.Observe === 0) {
      response.setOption("Max-Age", 1);
      observers.add(response);
      response.on("finish", () => observers.delete(response));
      response.write(text);
    } else {
      response.end(text);
    }
  });
  server.listen(port, "127.0.0.1");
}

if (process.argv[2] === "client") {
  observe(process.argv[3]);
} else {
  serve(Number(process.argv[3]));
}
