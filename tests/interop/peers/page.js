// What the page of test_browsers.py does in a browser. A worker loads this too, and does the same.
"use strict";
const base = `ws://${location.host}`;

/** Open a connection, call `use` on each event, and return everything received when the connection is closed. */
function connection(path, use = () => {}, { protocols = [], binaryType = "arraybuffer", url = base + path } = {}) {
  return new Promise((resolve) => {
    const peer = new WebSocket(url, protocols);
    const seen = { opened: false, received: [] };
    peer.binaryType = binaryType;
    peer.onopen = () => {
      Object.assign(seen, { opened: true, protocol: peer.protocol, extensions: peer.extensions });
      use(peer, 0);
    };
    peer.onmessage = ({ data }) => {
      seen.received.push(data);
      use(peer, seen.received.length);
    };
    peer.onclose = ({ code, reason, wasClean }) => resolve({ ...seen, code, reason, wasClean });
  });
}

async function same(one, other) {
  if (typeof one === "string" || typeof other === "string") return one === other;
  const [a, b] = await Promise.all([one, other].map(async (data) => new Uint8Array(await new Blob([data]).arrayBuffer())));
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

const counting = (size) => Uint8Array.from({ length: size }, (_, number) => number);
const messages = [
  "",
  "grüß dich, 🌍",
  new ArrayBuffer(0),
  counting(256).buffer,
  "ü🌍ab".repeat(1 << 17),
  counting(1 << 20).buffer,
  ...[125, 126, 65535, 65536].flatMap((size) => ["x".repeat(size), counting(size).buffer]),
  new Blob(["a blob"]),
  counting(100).subarray(10, 20),
];

/** Send each message and expect it back. Return whether each was the same, and the names of the binary types. */
async function echo(binaryType) {
  const use = (peer, count) => {
    if (count === 0) for (const message of messages) peer.send(message);
    if (count === messages.length) peer.close(4001, "done");
  };
  const seen = await connection("/echo", use, { binaryType });
  const types = [...new Set(seen.received.filter((data) => typeof data !== "string").map((data) => data.constructor.name))];
  const received = await Promise.all(seen.received.map((message, index) => same(message, messages[index])));
  return { ...seen, received, types };
}

/** Send more than the network holds to a server that reads nothing until it is told to. */
async function flood() {
  const [size, count] = [1 << 16, 1 << 10];
  const buffered = [];
  const seen = await connection("/flood", (peer, received) => {
    buffered.push(peer.bufferedAmount);
    if (received === 0) {
      for (let number = 0; number < count; number++) {
        const message = new Uint8Array(size);
        new DataView(message.buffer).setUint32(0, number);
        peer.send(message);
      }
      buffered.push(peer.bufferedAmount === size * count);
    } else if (received === 1) fetch("/read"); // the server says that it cannot hold more
    else peer.close();
  });
  const [before, all, waiting, after] = buffered;
  return { received: seen.received, buffered: [before, all, waiting > 0, after] };
}

/** Receive many messages, and return how many, and whether they are in order. */
async function receiveFlood() {
  const seen = await connection("/messages");
  return [seen.received.length, seen.received.every((data, index) => new DataView(data).getUint32(0) === index)];
}

/** The same with WebSocketStream, which is read only when the server cannot send more. */
async function readFlood() {
  const { readable } = await new WebSocketStream(base + "/stalled").opened;
  await fetch("/stuck"); // answered when the server waits
  let [count, ordered] = [0, true];
  for await (const data of readable) ordered &&= new DataView(data).getUint32(0) === count++;
  return [count, ordered];
}

/** Close with each code that a page may choose, or try another; return what was refused. */
async function leave(codes) {
  const refused = [];
  for (const code of codes) {
    await connection("/echo", (peer) => {
      try {
        peer.close(code, "ü".repeat(61));
      } catch ({ name }) {
        refused.push([code, name]);
        peer.close();
      }
    });
  }
  return refused;
}

/** Call a function of this script in a worker. */
function inWorker(call) {
  return new Promise((resolve, reject) => {
    const worker = new Worker("/page.js");
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(call);
  });
}

if (self.WorkerGlobalScope) onmessage = async ({ data }) => postMessage(await eval(data));
