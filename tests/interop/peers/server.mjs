// The server of `ws`: behaves as the class Peer in tests/interop/conversations.py says. It prints its port, then the
// code and reason of each Close frame as JSON. Its argument has the texts to send.
import { WebSocketServer } from "ws";

const { beat, reason, text, subprotocol, unauthorized, retryAfter, compression } = JSON.parse(process.argv[2]);

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  perMessageDeflate: compression && { threshold: 0 },
  handleProtocols: (offered) => offered.has(subprotocol) && subprotocol,
  verifyClient: ({ req }, decide) => {
    if (req.url === "/unauthorized") decide(false, 401, unauthorized, { "Content-Type": "text/plain" });
    else if (req.url === "/busy") decide(false, 503, "", { "Retry-After": retryAfter });
    else decide(true);
  },
});
server.on("listening", () => console.log(server.address().port));
server.on("connection", (peer, request) => {
  const [, action, code] = request.url.split("/");
  peer.on("message", (data, binary) => peer.send(data, { binary }));
  peer.on("pong", (data) => data.toString() === beat && peer.send("pong"));
  peer.on("close", (code, reason) => console.log(JSON.stringify({ code, reason: reason.toString() })));
  if (action === "fragments") {
    text.forEach((part, index) => {
      peer.send(part, { fin: index === text.length - 1 });
      if (index === 0) peer.ping(beat);
    });
  } else if (action === "ping") peer.ping(beat);
  else if (action === "leave") peer.close(Number(code), reason);
});
