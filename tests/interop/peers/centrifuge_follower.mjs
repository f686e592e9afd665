// Follows the topic `news` with the library `centrifuge`, and prints what happens as lines of JSON.
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const print = (...happened) => console.log(JSON.stringify(happened));
const client = new Centrifuge(process.argv[2], { websocket: WebSocket, minReconnectDelay: 20, maxReconnectDelay: 200 });
client.on("connected", () => print("connected"));
client.on("disconnected", ({ code, reason }) => print("disconnected", code, reason));
const news = client.newSubscription("news", { minResubscribeDelay: 20, maxResubscribeDelay: 200 });
news.on("subscribed", ({ wasRecovering, recovered }) => print("subscribed", wasRecovering, recovered));
news.on("unsubscribed", ({ code, reason }) => print("unsubscribed", code, reason));
news.on("publication", ({ offset, data }) => print("publication", offset, data));
news.subscribe();
client.connect();
