// The browser's own WebTransport as a peer of a relay: MOQT's messages by hand, in one draft.

const hex = (text) => Uint8Array.from(text.replaceAll(" ", "").match(/../g) ?? [], (byte) => parseInt(byte, 16));
const text = (string) => new TextEncoder().encode(string);
const join = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));

// A control message: its type in one byte (two for SETUP), its length, its body.
const message = (type, ...body) => {
  const bytes = join(...body);
  return join(type, [bytes.length >> 8, bytes.length & 0xff], bytes);
};

const namespace = (fields) => join([fields.length], ...fields.map((field) => join([field.length], text(field))));

// The integer that bytes begin with, as it stands there: as many bytes follow the first as ones lead it.
const integer = (bytes) => bytes.slice(0, 1 + Math.min(8, Math.clz32((~bytes[0] & 0xff) << 24)));

class Session {
  constructor(transport) {
    this.transport = transport;
    this.bidirectional = transport.incomingBidirectionalStreams.getReader();
    this.unidirectional = transport.incomingUnidirectionalStreams.getReader();
    this.requests = 0;
  }

  // A session whose SETUPs are exchanged.
  static async open(url, options, draft) {
    const transport = new WebTransport(url, { ...options, protocols: [`moqt-${draft}`] });
    await transport.ready;
    if (transport.protocol !== `moqt-${draft}`) throw new Error(`protocol ${transport.protocol}`);
    const session = new Session(transport);
    const control = await transport.createUnidirectionalStream();
    session.control = control.getWriter();
    await session.control.write(message(hex("af00")));
    const stream = await session.stream();
    const begin = await read(stream, 4);
    if (begin[0] !== 0xaf || begin[1] !== 0x00) throw new Error(`no SETUP: ${begin}`);
    return session;
  }

  // The next unidirectional stream of the relay's.
  async stream() {
    const { value, done } = await this.unidirectional.read();
    if (done) throw new Error("no more streams");
    return new Reader(value);
  }

  // Sends a request on a stream of its own; gives where its answer comes and goes.
  async ask(type, ...body) {
    const stream = await this.transport.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    const id = this.requests;
    this.requests += 2;
    await writer.write(message([type], [id], ...body));
    return { writer, reader: new Reader(stream.readable) };
  }

  // The next request of the relay's, and where to answer.
  async asked() {
    const { value, done } = await this.bidirectional.read();
    if (done) throw new Error("no more requests");
    const reader = new Reader(value.readable);
    return { writer: value.writable.getWriter(), message: await next(reader) };
  }
}

class Reader {
  constructor(readable) {
    this.reader = readable.getReader();
    this.bytes = new Uint8Array();
  }
}

// Exactly so many bytes of a stream.
async function read(stream, length) {
  while (stream.bytes.length < length) {
    const { value, done } = await stream.reader.read();
    if (done) throw new Error("a stream ended");
    stream.bytes = join(stream.bytes, value);
  }
  const taken = stream.bytes.slice(0, length);
  stream.bytes = stream.bytes.slice(length);
  return taken;
}

// The next message of a type in one byte.
async function next(stream) {
  const [type, high, low] = await read(stream, 3);
  return { type, body: await read(stream, (high << 8) | low) };
}

async function expect(stream, type) {
  const came = await next(stream);
  if (came.type !== type) throw new Error(`message 0x${type.toString(16)} wanted, got 0x${came.type.toString(16)}`);
  return came.body;
}

// Everything of a stream up to its end.
async function whole(stream) {
  for (;;) {
    const { value, done } = await stream.reader.read();
    if (done) return stream.bytes;
    stream.bytes = join(stream.bytes, value);
  }
}

const equal = (one, other) => one.length === other.length && one.every((byte, index) => byte === other[index]);

export const cases = (url, options, draft) => {
  const open = () => Session.open(url, options, draft);
  const unique = () => namespace(["browser", crypto.randomUUID()]);
  return {
    setup: async () => (await open()).transport.close(),
    // SUBSCRIBE to what nobody has: REQUEST_ERROR.
    "subscribe-error": async () => {
      const { reader } = await (await open()).ask(0x03, unique(), [1], text("t"), [0]);
      await expect(reader, 0x05);
    },
    // One session publishes, another subscribes: an object in a stream, and one in a datagram.
    objects: async () => {
      const [publisher, subscriber] = [await open(), await open()];
      const name = unique();
      await expect((await publisher.ask(0x06, name, [0])).reader, 0x07);
      const subscription = await subscriber.ask(0x03, name, [1], text("t"), [0]);
      const asked = await publisher.asked();
      if (asked.message.type !== 0x03) throw new Error("SUBSCRIBE wanted");
      // SUBSCRIBE_OK: alias 7, no parameters.
      await asked.writer.write(message([0x04], [7, 0]));
      const alias = integer(await expect(subscription.reader, 0x04));
      // Subgroup 0 of group 1, priority 128: object 0.
      const payload = text("from a browser");
      const stream = (await publisher.transport.createUnidirectionalStream()).getWriter();
      await stream.write(join([0x14, 7, 1, 0, 0x80, 0, payload.length], payload));
      await stream.close();
      const came = await whole(await subscriber.stream());
      if (!equal(came.slice(-payload.length), payload)) throw new Error(`the object: ${came}`);
      const writer = publisher.transport.datagrams.writable.getWriter();
      await writer.write(join([0x00, 7, 1, 1, 0x80], text("datagram")));
      const { value } = await subscriber.transport.datagrams.readable.getReader().read();
      if (!equal(value, join([0x00], alias, [1, 1, 0x80], text("datagram")))) throw new Error(`the datagram: ${value}`);
    },
    // What breaks the draft is told with the draft's code.
    "protocol-violation": async () => {
      const session = await open();
      await session.control.write(message(hex("af00")));
      const closed = await session.transport.closed;
      if (closed.closeCode !== 3) throw new Error(`closed with ${closed.closeCode} ${closed.reason}`);
    },
    // A stream that is reset by one arrives reset at the other, with a code of MOQT's.
    "stream-reset": async () => {
      const [publisher, subscriber] = [await open(), await open()];
      const name = unique();
      await expect((await publisher.ask(0x06, name, [0])).reader, 0x07);
      const subscription = await subscriber.ask(0x03, name, [1], text("t"), [0]);
      const asked = await publisher.asked();
      await asked.writer.write(message([0x04], [7, 0]));
      await expect(subscription.reader, 0x04);
      const stream = (await publisher.transport.createUnidirectionalStream()).getWriter();
      await stream.write(join([0x14, 7, 1, 0, 0x80, 0, 1], text("x")));
      const came = await subscriber.stream();
      // The relay's header may be shorter than the publisher's.
      while ((await read(came, 1))[0] !== text("x")[0]);
      await stream.abort(new WebTransportError({ message: "cancelled", streamErrorCode: 1 }));
      const end = await came.reader.read().then(() => "an end", (error) => error.streamErrorCode);
      if (end !== 1) throw new Error(`reset with ${end}`);
    },
  };
};
