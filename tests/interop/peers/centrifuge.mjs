// Runs the scenario with the library `centrifuge`, on the WebSocket of `ws`, and prints what happened.
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";
import "./centrifuge_scenario.js";

console.log(JSON.stringify(await globalThis.scenario(Centrifuge, process.argv[2], { websocket: WebSocket })));
