// A client with node-coap for the interop tests: node tests/host/node/ask.js
// Reads a request from each line, as JSON, and prints the answer as a line of JSON. request_line in ../peers.py says
// what the fields are.
"use strict";

const fs = require("fs");

const coap = require("coap");

const FORMATS = {
  "text/plain": 0,
  "application/link-format": 40,
  "application/xml": 41,
  "application/octet-stream": 42,
  "application/json": 50,
};

function groupByNumber(options) {
  const values = {};
  for (const [number, value] of options) {
    (values[number] ||= []).push(Buffer.from(value, "hex"));
  }
  return values;
}

function typeOf(packet) {
  return packet.ack ? "ACK" : packet.confirmable ? "CON" : "NON";
}

function describe(response) {
  const format = response.headers["Content-Format"];
  return JSON.stringify({
    code: response.code,
    mtype: typeOf(response._packet),
    content_format: format === undefined ? null : FORMATS[format],
    payload: response.payload.toString("hex"),
  });
}

function ask({ method, uri, payload, mtype, accept, options }) {
  const { hostname, port, pathname, search } = new URL(uri);
  const query = search.slice(1);
  const request = coap.request({ hostname, port, pathname, query, method, confirmable: mtype === "CON" });
  if (accept !== undefined) {
    request.setOption("Accept", Buffer.from([accept]));
  }
  for (const [number, values] of Object.entries(groupByNumber(options || []))) {
    request.setOption(number, values);
  }
  return new Promise((resolve, reject) => {
    request.on("response", resolve);
    request.on("error", reject);
    request.end(Buffer.from(payload, "hex"));
  });
}

async function main() {
  const lines = fs.readFileSync(0, "utf8").trimEnd().split("\n");
  for (const line of lines) {
    console.log(describe(await ask(JSON.parse(line))));
  }
  process.exit(0);
}

main();
