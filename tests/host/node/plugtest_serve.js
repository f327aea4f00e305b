// The server of the plugtests with node-coap: node tests/host/node/plugtest_serve.js PORT
// A CON of its own is repeated after half a second, to keep the lossy cases short.
"use strict";

const coap = require("coap");

coap.updateTiming({ ackTimeout: 0.5 });
const SEPARATE_MS = 300; // more than the 50 ms after which node-coap acknowledges without the response
const stored = { "/validate": "first", "/create1": null };
const LINKS =
  '</test>;rt="Type1",</seg1/seg2/seg3>,</separate>,</validate>;sz=5,</link1>;rt="Type1 Type2";if="If1",' +
  '</link2>;rt="Type2 Type3";if="If2",</link3>;rt="Type1 Type3";if="foo",</path>;ct=40,</path/sub1>';

function end(response, code, payload, format) {
  response.code = code;
  if (format !== undefined) response.setOption("Content-Format", format);
  response.end(payload);
}

function text(payload) {
  return (request, response) => end(response, "2.05", payload, "text/plain");
}

function option(request, name) {
  return request.options.filter((one) => one.name === name).map((one) => one.value.toString());
}

function test(request, response) {
  if (request.method === "GET") return text("a test")(request, response);
  if (request.method === "POST") {
    const path = ["location1", "location2", "location3"];
    response.setOption("Location-Path", path.map((segment) => Buffer.from(segment)));
  }
  end(response, { PUT: "2.04", POST: "2.01", DELETE: "2.02" }[request.method]);
}

function query(request, response) {
  end(response, "2.05", request.url.split("?")[1], "text/plain");
}

function separate(request, response) {
  setTimeout(() => text("separate")(request, response), SEPARATE_MS);
}

function locationQuery(request, response) {
  response.setOption("Location-Query", ["first=1", "second=2"].map((one) => Buffer.from(one)));
  end(response, "2.01");
}

function multiFormat(request, response) {
  const accept = request.headers.Accept;
  if (accept === "application/xml") end(response, "2.05", "<text/>", "application/xml");
  else if (accept === undefined || accept === "text/plain") end(response, "2.05", "text", "text/plain");
  else end(response, "4.06");
}

// A text whose ETag is the text itself, at most 8 bytes.
function store(request, response) {
  const state = stored[request.url];
  if (request.method === "GET") {
    if (state === null) return end(response, "4.04");
    response.setOption("ETag", Buffer.from(state.slice(0, 8)));
    if (option(request, "ETag").includes(state.slice(0, 8))) return end(response, "2.03");
    return end(response, "2.05", state, "text/plain");
  }
  if (request.method === "DELETE") {
    stored[request.url] = null;
    return end(response, "2.02");
  }
  const match = option(request, "If-Match");
  const none = option(request, "If-None-Match");
  if ((match.length && !match.includes(state.slice(0, 8))) || (none.length && state !== null)) {
    return end(response, "4.12");
  }
  stored[request.url] = request.payload.toString();
  end(response, state === null ? "2.01" : "2.04");
}

const resources = {
  "/.well-known/core": (request, response) => end(response, "2.05", LINKS, "application/link-format"),
  "/test": test,
  "/seg1/seg2/seg3": text("seg1/seg2/seg3"),
  "/query": query,
  "/separate": separate,
  "/location-query": locationQuery,
  "/multi-format": multiFormat,
  "/validate": store,
  "/create1": store,
  "/path": (request, response) =>
    end(response, "2.05", "</path/sub1>,</path/sub2>,</path/sub3>", "application/link-format"),
  "/path/sub1": text("sub1"),
  "/path/sub2": text("sub2"),
  "/path/sub3": text("sub3"),
};
const unknown = (request, response) => end(response, "4.04");
const server = coap.createServer((request, response) => {
  (resources[request.url.split("?")[0]] || unknown)(request, response);
});
server.listen(Number(process.argv[2]), "127.0.0.1");
