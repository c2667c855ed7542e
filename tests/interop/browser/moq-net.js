// @moq/net as a peer of a relay: one connection publishes, another subscribes.

import * as Moq from "@moq/net";

const connect = (url, options) =>
  Moq.Connection.connect(new URL(url), { webtransport: options, websocket: { enabled: false } });

export const cases = (url, options) => ({
  connect: async () => {
    const connection = await connect(url, options);
    if (!`${connection.version}`.includes("20")) throw new Error(`version ${connection.version}`);
    connection.close();
  },
  objects: async () => {
    const path = Moq.Path.from(`browser/${crypto.randomUUID()}`);
    const publisher = await connect(url, options);
    const broadcast = new Moq.Broadcast.Producer();
    const track = broadcast.createTrack("t");
    publisher.publish(path, broadcast);
    const subscriber = await connect(url, options);
    const subscription = subscriber.consume(path).subscribe("t");
    // Again and again: a subscriber gets what comes after it has subscribed.
    const writing = setInterval(() => track.writeString("from @moq/net"), 100);
    try {
      const frame = await subscription.readFrame();
      const came = new TextDecoder().decode(frame?.payload ?? frame);
      if (came !== "from @moq/net") throw new Error(`the frame: ${came}`);
    } finally {
      clearInterval(writing);
      publisher.close();
      subscriber.close();
    }
  },
});
