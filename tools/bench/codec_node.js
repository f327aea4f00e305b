// Prints how many messages a second coap-packet does on Node.js, as JSON: node codec_node.js N HEX...
// HEX are the datagrams of representative.py. index is parse, write is generate of what parse gave.
"use strict";

const { generate, parse } = require("coap-packet");

const [n, ...datagrams] = process.argv.slice(2);
const buffers = datagrams.map((hex) => Buffer.from(hex, "hex"));
const messages = buffers.map(parse);

/** CPU time of this process in seconds, that of the garbage collector's threads included. */
function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function perSecond(items, work) {
  for (let i = 0; i < n / 4; i++) items.forEach((item) => work(item));
  const begin = cpuSeconds();
  for (let i = 0; i < n; i++) items.forEach((item) => work(item));
  return (n * items.length) / (cpuSeconds() - begin);
}

console.log(JSON.stringify({ index: perSecond(buffers, parse), write: perSecond(messages, (m) => generate(m)) }));
