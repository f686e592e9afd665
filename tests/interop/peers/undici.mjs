// The two clients of `undici`, which is the fetch of Node.js: the WebSocket of browsers, and WebSocketStream. They
// send neither pings nor fragments. What they do is described in programs.py and interop/conversations.py.
import { WebSocket, WebSocketStream } from "undici";

const { library, url, subprotocols, reason } = JSON.parse(process.argv[2]);
const [, action, code] = new URL(url).pathname.split("/");
const print = (said) => console.log(JSON.stringify(said));

print(null);
if (library === "WebSocket") {
  const peer = new WebSocket(url, subprotocols);
  peer.binaryType = "arraybuffer";
  peer.onopen = () => {
    if (action === "subprotocol") peer.send(peer.protocol);
    else if (action === "leave") peer.close(Number(code), reason);
  };
  peer.onmessage = ({ data }) => peer.send(data);
  peer.onclose = ({ code, reason }) => print({ code, reason });
} else {
  process.removeAllListeners("warning"); // that it is experimental
  const peer = new WebSocketStream(url, { protocols: subprotocols });
  const { readable, writable, protocol } = await peer.opened;
  const writer = writable.getWriter();
  if (action === "subprotocol") await writer.write(protocol);
  else if (action === "leave") peer.close({ closeCode: Number(code), reason });
  for await (const message of readable) await writer.write(message);
  const closed = await peer.closed;
  print({ code: closed.closeCode, reason: closed.reason });
}
