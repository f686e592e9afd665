// The client of `ws`: acts on the path of its URL, and prints the events of the connection as JSON.
import WebSocket from "ws";

const sent = [
  "",
  "grüß dich, 🌍",
  Buffer.alloc(0),
  Buffer.from(Array.from({ length: 256 }, (_, number) => number)),
  "ü🌍ab".repeat(1 << 17),
  Buffer.alloc(1 << 20, "0123456789abcdef"),
];

const url = process.argv[2];
const compression = process.argv[3] === "deflate";
const peer = new WebSocket(url, { perMessageDeflate: compression, handshakeTimeout: 10_000 });
const seen = { echoed: [], pings: [], pongs: [] };

peer.on("open", () => {
  seen.extensions = peer.extensions;
  if (new URL(url).pathname === "/echo") {
    peer.ping("beat");
    for (const message of sent) peer.send(message);
    peer.send("a", { fin: false });
    peer.send("ü", { fin: false });
    peer.send("b", { fin: true });
  }
});
peer.on("message", (data, binary) => {
  const expected = [...sent, "aüb"][seen.echoed.length];
  const same = typeof expected === "string" ? !binary && data.toString() === expected : binary && data.equals(expected);
  seen.echoed.push(same);
  if (seen.echoed.length > sent.length) peer.close(4001, "done");
});
peer.on("ping", (data) => seen.pings.push(data.toString()));
peer.on("pong", (data) => seen.pongs.push(data.toString()));
peer.on("close", (code, reason) => {
  seen.code = code;
  seen.reason = reason.toString();
  console.log(JSON.stringify(seen));
});
