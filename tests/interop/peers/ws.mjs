// The library `ws` in both roles. What it does is described in programs.py and interop/conversations.py.
import WebSocket, { WebSocketServer } from "ws";

const settings = JSON.parse(process.argv[2]);
const perMessageDeflate = settings.compression ?? false;
const print = (said) => console.log(JSON.stringify(said));

function converse(peer, path) {
  const { text, beat, reason } = settings;
  const [, action, code] = path.split("/");
  peer.on("message", (data, binary) => peer.send(data, { binary }));
  peer.on("pong", (data) => data.toString() === beat && peer.send("pong"));
  peer.on("close", (code, reason) => print({ code, reason: reason.toString() }));
  if (action === "subprotocol") peer.send(peer.protocol);
  else if (action === "fragments") {
    text.forEach((part, index) => {
      peer.send(part, { fin: index === text.length - 1 });
      if (index === 0) peer.ping(beat);
    });
  } else if (action === "ping") peer.ping(beat);
  else if (action === "leave") peer.close(Number(code), reason);
}

if (settings.url) {
  print(null);
  const { url, subprotocols } = settings;
  const peer = new WebSocket(url, subprotocols, { perMessageDeflate });
  peer.on("open", () => converse(peer, new URL(url).pathname));
} else {
  const server = new WebSocketServer({
    host: "127.0.0.1",
    port: 0,
    perMessageDeflate,
    handleProtocols: (offered) => offered.has(settings.subprotocol) && settings.subprotocol,
    verifyClient: ({ req: { url } }, decide) => {
      if (url === "/unauthorized") decide(false, 401, settings.unauthorized, { "Content-Type": "text/plain" });
      else if (url === "/busy") decide(false, 503, "", { "Retry-After": settings.retryAfter });
      else decide(true);
    },
  });
  server.on("listening", () => print(server.address().port));
  server.on("connection", (peer, request) => converse(peer, request.url));
}
