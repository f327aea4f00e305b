// Messages through npm's coap-packet: node packets.js decode|encode < lines
// decode: hexadecimal digits to "code type id token payload number:value ...", bytes as digits, "-" if there are none;
// encode: the reverse. An error is printed as "error" and its text.
"use strict";

const fs = require("fs");

const { generate, parse } = require("coap-packet");

const MOST_BYTES = 65535;
const NUMBERS = numbersByName();

function numbersByName() {
  const numbers = {};
  for (let number = 1; number < 2100; number++) {
    const options = [{ name: String(number), value: Buffer.alloc(0) }];
    numbers[parse(generate({ options })).options[0].name] = number;
  }
  return numbers;
}

function digits(bytes) {
  return bytes.length ? bytes.toString("hex") : "-";
}

function bytes(word) {
  return Buffer.from(word === "-" ? "" : word, "hex");
}

function decode(line) {
  const packet = parse(bytes(line));
  const [high, low] = packet.code.split(".").map(Number);
  const type = packet.confirmable ? 0 : packet.ack ? 2 : packet.reset ? 3 : 1;
  const options = packet.options.map(({ name, value }) => `${NUMBERS[name] || name}:${digits(value)}`);
  const fields = [high * 32 + low, type, packet.messageId, digits(packet.token), digits(packet.payload)];
  return [...fields, ...options].join(" ");
}

function encode(line) {
  const [code, type, messageId, token, payload, ...options] = line.split(" ");
  const packet = {
    code: `${code >> 5}.${String(code & 31).padStart(2, "0")}`,
    confirmable: type === "0",
    ack: type === "2",
    reset: type === "3",
    messageId: Number(messageId),
    token: bytes(token),
    payload: bytes(payload),
    options: options.map((option) => ({ name: option.split(":")[0], value: bytes(option.split(":")[1]) })),
  };
  return generate(packet, MOST_BYTES).toString("hex");
}

const convert = { decode, encode }[process.argv[2]];
for (const line of fs.readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  try {
    console.log(convert(line));
  } catch (error) {
    console.log("error " + error.message);
  }
}
