// The library `faye-websocket` in both roles, which sends no fragments. What it does is described in programs.py and
// interop/conversations.py.
import http from "node:http";
import faye from "faye-websocket";
import deflate from "permessage-deflate";

const settings = JSON.parse(process.argv[2]);
const options = { extensions: settings.compression ? [deflate.configure(settings.compression)] : [] };
const print = (said) => console.log(JSON.stringify(said));

function converse(peer, path) {
  const { beat, reason } = settings;
  const [, action, code] = path.split("/");
  peer.on("message", ({ data }) => peer.send(data));
  peer.on("close", ({ code, reason }) => print({ code, reason }));
  if (action === "subprotocol") peer.send(peer.protocol);
  else if (action === "ping") peer.ping(beat, () => peer.send("pong"));
  else if (action === "leave") peer.close(Number(code), reason);
}

if (settings.url) {
  print(null);
  const peer = new faye.Client(settings.url, settings.subprotocols, options);
  peer.on("open", () => converse(peer, new URL(settings.url).pathname));
} else {
  const server = http.createServer();
  const refuse = (socket, status, fields, body) =>
    socket.end(`HTTP/1.1 ${status}\r\n${fields}Content-Length: ${body.length}\r\n\r\n${body}`);
  server.on("upgrade", (request, socket, head) => {
    if (request.url === "/unauthorized") refuse(socket, "401 Unauthorized", "", settings.unauthorized);
    else if (request.url === "/busy")
      refuse(socket, "503 Service Unavailable", `Retry-After: ${settings.retryAfter}\r\n`, "");
    else {
      const peer = new faye(request, socket, head, [settings.subprotocol], options);
      peer.on("open", () => converse(peer, request.url));
    }
  });
  server.listen(0, "127.0.0.1", () => print(server.address().port));
}
