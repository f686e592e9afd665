// Uses the library `centrifuge` with the server of interop/centrifugo.py, in Node.js and in a page. Returns what
// happened, step by step.
globalThis.scenario = async (Centrifuge, url, options) => {
  const happened = [];
  const note = (name, value) => happened.push([name, value ?? null]);
  const next = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));
  const failure = (promise) => promise.then(() => "no error", ({code, message}) => ({code, message}));
  const own = ({user, connInfo}) => ({user, connInfo});

  let tokens = 0;
  const client = new Centrifuge(url, {
    ...options, data: {from: "scenario"}, getToken: async () => "ada " + tokens++, minReconnectDelay: 1, maxReconnectDelay: 50,
  });
  client.on("connecting", ({code, reason}) => note("connecting", [code, reason]));
  client.on("connected", ({data}) => note("connected", data));
  client.on("disconnected", ({code, reason}) => note("disconnected", [code, reason]));
  client.on("error", ({type, error}) => note("error", [type, error.code, error.message]));
  client.connect();

  const news = client.newSubscription("news", {joinLeave: true});
  const seen = [];
  news.on("publication", ({data, offset}) => seen.push([data, offset]));
  news.on("join", ({info}) => note("join", own(info)));
  news.on("leave", ({info}) => note("leave", own(info)));
  news.on("subscribing", ({code, reason}) => note("subscribing", [code, reason]));
  news.on("unsubscribed", ({code, reason}) => note("unsubscribed", [code, reason]));
  news.on("subscribed", ({positioned, recoverable, wasRecovering, recovered, streamPosition}) =>
    note("subscribed", {positioned, recoverable, wasRecovering, recovered, offset: streamPosition.offset}));
  const published = async (count) => {
    while (seen.length < count) await next(news, "publication");
    note("publications", seen.splice(0));
  };
  news.subscribe();
  await next(news, "join");

  await news.publish({n: 1});
  await client.publish("news", {n: 2});
  await published(2);
  note("wrong data", await failure(news.publish({n: "two"})));
  const {clients} = await news.presence();
  note("presence", Object.values(clients).map(own));
  note("presence stats", await client.presenceStats("news"));
  const history = await news.history({limit: 10});
  note("history", [history.publications.map(({data, offset}) => [data, offset]), history.offset]);
  const since = await news.history({limit: 10, since: {offset: 1, epoch: history.epoch}});
  note("history since", since.publications.map(({offset}) => offset));
  const newest = await client.history("news", {limit: 1, reverse: true});
  note("newest", newest.publications.map(({offset}) => offset));

  const secret = client.newSubscription("secret");
  secret.subscribe();
  const {code, reason} = await next(secret, "unsubscribed");
  note("secret", [code, reason]);

  client.startBatching();
  const calls = [client.rpc("double", 21), client.rpc("double", 0.5)];
  client.stopBatching();
  note("rpc", await Promise.all(calls));
  note("wrong call", await failure(client.rpc("double", "x")));
  note("no such function", await failure(client.rpc("halve", 2)));
  await client.send({text: "ü\n"});
  note("sent", (await client.rpc("sent", null)).data);

  let recovered = next(news, "subscribed");
  client.rpc("cut", 2).catch(() => {});  // it publishes twice while this client is away
  await recovered;
  await published(2);
  recovered = next(news, "subscribed");
  client.rpc("cut", 9).catch(() => {});  // more than the history has
  await recovered;
  await client.rpc("double", 0);
  note("lost", seen.splice(0));

  const before = tokens;
  await client.rpc("refreshed", before);  // returns when a later token has come
  note("refreshed", tokens > before);

  news.unsubscribe();
  await client.ready();
  note("left", (await client.presence("news")).clients);
  const ended = next(client, "disconnected");
  client.rpc("end", null).catch(() => {});
  await ended;
  return happened;
};
