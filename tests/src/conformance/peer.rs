//! One MOQT peer of the relay under test, as polite or rude as a case wants it.
//!
//! It numbers its streams and requests and takes messages apart; it checks nothing that it sends.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::{Duration, Instant},
};

use aip_codec::{
    Version,
    moqt::{
        id::RequestId,
        message::{Message, MessageType, RequestOk, Setup},
        varint,
    },
};
use bytes::{Bytes, BytesMut};

use super::{
    failure::{Failure, Outcome},
    network::Network,
    quic::{Closed, End, Quic},
    target::Endpoint,
    web::Web,
};

/// The protocol of HTTP/3.
const HTTP3: &[u8] = b"h3";

/// How long anything may take that the draft does not time.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection with what is known of it.
pub(super) struct Peer {
    network: Rc<Network>,
    key: usize,
    pub(super) version: Version,
    next_request: Cell<u64>,
    next_bidirectional: Cell<u64>,
    next_unidirectional: Cell<u64>,
    /// Streams that the relay opened and a case has taken.
    taken: RefCell<BTreeSet<u64>>,
    setup: RefCell<Setup>,
}

/// What was heard on a stream of messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    Message(Message),
    End(End),
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.network.remove(self.key);
    }
}

impl Peer {
    /// A connection in `version`, without SETUP.
    pub(super) fn bare(
        network: &Rc<Network>,
        endpoint: &Endpoint,
        version: Version,
    ) -> Outcome<Self> {
        let (alpn, web) = if endpoint.is_webtransport() {
            (HTTP3, Some(Web::new(endpoint, version)))
        } else {
            (version.alpn().as_bytes(), None)
        };
        let peer = Self::connected(network, endpoint, version, (alpn, web))?;
        peer.wait("a session", PATIENCE, |quic| match quic.refusal() {
            Some(why) => Some(Err(Failure::new("a session", why))),
            None => quic.is_established().then_some(Ok(())),
        })??;
        Ok(peer)
    }

    /// A connection over HTTP/3, without a session: its streams are the connection's own.
    pub(super) fn http3(
        network: &Rc<Network>,
        endpoint: &Endpoint,
        version: Version,
    ) -> Outcome<Self> {
        let peer = Self::connected(network, endpoint, version, (HTTP3, None))?;
        peer.wait("a QUIC handshake", PATIENCE, |quic| quic.is_established().then_some(()))?;
        Ok(peer)
    }

    fn connected(
        network: &Rc<Network>,
        endpoint: &Endpoint,
        version: Version,
        (alpn, web): (&[u8], Option<Web>),
    ) -> Outcome<Self> {
        let key = network
            .connect(endpoint, alpn, web)
            .map_err(|error| Failure::new("a socket", error.to_string()))?;
        let peer = Self {
            network: Rc::clone(network),
            key,
            version,
            next_request: Cell::new(0),
            next_bidirectional: Cell::new(0),
            next_unidirectional: Cell::new(2),
            taken: RefCell::new(BTreeSet::new()),
            setup: RefCell::new(Setup::default()),
        };
        peer.wait("a QUIC handshake", PATIENCE, |quic| quic.is_connected().then_some(()))?;
        if peer.quic(|quic| endpoint.accepts(quic.certificate())) {
            Ok(peer)
        } else {
            Err(Failure::new("a certificate that is pinned", "another one"))
        }
    }

    /// A session: both SETUPs are exchanged.
    pub(super) fn session(
        network: &Rc<Network>,
        endpoint: &Endpoint,
        version: Version,
    ) -> Outcome<Self> {
        let peer = Self::bare(network, endpoint, version)?;
        let control = peer.unidirectional(&[]);
        debug_assert_eq!(control, Self::CONTROL);
        peer.send(control, &peer.encode(&Message::Setup(setup_of(endpoint))));
        peer.await_setup()?;
        Ok(peer)
    }

    /// The number of our control stream, if it is the first we open.
    pub(super) const CONTROL: u64 = 2;

    /// Waits for the relay's SETUP.
    pub(super) fn await_setup(&self) -> Outcome {
        let control = self.control_stream()?;
        match self.message(control)? {
            Message::Setup(setup) => {
                *self.setup.borrow_mut() = setup;
                Ok(())
            }
            other => Err(Failure::new("SETUP first", name(&other))),
        }
    }

    /// The stream on which the relay's control messages come.
    fn control_stream(&self) -> Outcome<u64> {
        let setup = MessageType::Setup.code();
        self.wait("SETUP", PATIENCE, |quic| {
            let mut streams = quic.received.iter();
            let is_control = |bytes: &[u8]| varint::decode(bytes).is_ok_and(|(it, _)| it == setup);
            streams
                .find(|(stream, received)| **stream % 4 == 3 && is_control(&received.bytes))
                .map(|(stream, _)| *stream)
        })
        .inspect(|stream| {
            self.taken.borrow_mut().insert(*stream);
        })
    }

    /// The relay's control stream, once its SETUP is here.
    pub(super) fn relays_control(&self) -> Option<u64> {
        self.taken.borrow().iter().copied().find(|stream| stream % 4 == 3)
    }

    /// What the relay said in SETUP.
    pub(super) fn relays_setup(&self) -> Setup {
        self.setup.borrow().clone()
    }

    fn quic<T>(&self, act: impl FnOnce(&mut Quic) -> T) -> T {
        self.network.with(self.key, act)
    }

    /// Waits until `look` finds something.
    ///
    /// # Errors
    /// When `patience` is over or the connection is.
    pub(super) fn wait<T>(
        &self,
        expected: &str,
        patience: Duration,
        mut look: impl FnMut(&mut Quic) -> Option<T>,
    ) -> Outcome<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = self.quic(&mut look) {
                return Ok(found);
            }
            if let Some(closed) = self.closed() {
                return Err(Failure::new(expected, closed.to_string()));
            }
            if deadline <= Instant::now() {
                let waited = format!("nothing within {} ms", patience.as_millis());
                return Err(Failure::new(expected, waited));
            }
            self.network
                .turn(deadline)
                .map_err(|error| Failure::new(expected, format!("poll failed: {error}")))?;
        }
    }

    /// How the connection ended, if it has.
    pub(super) fn closed(&self) -> Option<Closed> {
        self.quic(|quic| quic.closed())
    }

    // Sending: whatever a case likes.

    pub(super) fn encode(&self, message: &Message) -> Bytes {
        encode(self.version, message)
    }

    /// Opens a bidirectional stream that begins with these bytes.
    pub(super) fn bidirectional(&self, bytes: &[u8]) -> u64 {
        let stream = self.next_bidirectional.get();
        self.next_bidirectional.set(stream + 4);
        self.send(stream, bytes);
        stream
    }

    /// Opens a unidirectional stream that begins with these bytes.
    pub(super) fn unidirectional(&self, bytes: &[u8]) -> u64 {
        let stream = self.next_unidirectional.get();
        self.next_unidirectional.set(stream + 4);
        if !bytes.is_empty() {
            self.send(stream, bytes);
        }
        stream
    }

    pub(super) fn send(&self, stream: u64, bytes: &[u8]) {
        self.quic(|quic| quic.send(stream, Bytes::copy_from_slice(bytes), false));
    }

    pub(super) fn finish(&self, stream: u64) {
        self.quic(|quic| quic.send(stream, Bytes::new(), true));
    }

    /// Streams that we may still open towards the relay for requests.
    pub(super) fn requests_left(&self) -> u64 {
        self.quic(|quic| quic.requests_left())
    }

    pub(super) fn reset(&self, stream: u64, code: u64) {
        self.quic(|quic| quic.reset(stream, code));
    }

    pub(super) fn stop(&self, stream: u64, code: u64) {
        self.quic(|quic| quic.stop(stream, code));
    }

    pub(super) fn datagram(&self, bytes: &[u8]) -> Outcome {
        self.quic(|quic| quic.datagram(bytes))
            .map_err(|error| Failure::new("datagrams negotiated (RFC 9221)", error.to_string()))
    }

    /// Closes the connection.
    pub(super) fn close(&self, code: u64) {
        self.quic(|quic| quic.close(code));
    }

    /// The next number for a request of ours.
    pub(super) fn request_id(&self) -> RequestId {
        let id = self.next_request.get();
        self.next_request.set(id + 2);
        RequestId(id)
    }

    /// Sends a request on a stream of its own.
    pub(super) fn request(&self, message: &Message) -> u64 {
        self.bidirectional(&self.encode(message))
    }

    /// Sends a message on a stream there is.
    pub(super) fn say(&self, stream: u64, message: &Message) {
        self.send(stream, &self.encode(message));
    }

    // Hearing.

    /// The next message on a stream, or its end.
    pub(super) fn heard_within(&self, stream: u64, patience: Duration) -> Outcome<Heard> {
        let version = self.version;
        self.wait("a message", patience, |quic| {
            let received = quic.received.get_mut(&stream)?;
            if let Some(frame) = take_frame(version, &mut received.bytes) {
                return Some(frame.map(Heard::Message));
            }
            received.end.map(|end| Ok(Heard::End(end)))
        })?
    }

    /// The next message on a stream, or its end.
    pub(super) fn heard(&self, stream: u64) -> Outcome<Heard> {
        self.heard_within(stream, PATIENCE)
    }

    /// Whether anything has come on a stream.
    pub(super) fn has_heard(&self, stream: u64) -> bool {
        self.quic(|quic| quic.received.get(&stream).is_some_and(|it| !it.bytes.is_empty()))
    }

    /// Everything that has come on a stream and was not taken.
    pub(super) fn bytes(&self, stream: u64) -> Vec<u8> {
        self.quic(|quic| quic.received.get(&stream).map_or_else(Vec::new, |it| it.bytes.clone()))
    }

    /// The next message on a stream.
    pub(super) fn message(&self, stream: u64) -> Outcome<Message> {
        match self.heard(stream)? {
            Heard::Message(message) => Ok(message),
            Heard::End(end) => Err(Failure::new("a message", format!("{end:?}"))),
        }
    }

    /// Waits for the next request that the relay makes; gives its first message. Relays that tell of
    /// namespaces or ask for them without being asked are told that it is well.
    pub(super) fn incoming(&self) -> Outcome<(u64, Message)> {
        self.incoming_within(PATIENCE)
    }

    pub(super) fn incoming_within(&self, patience: Duration) -> Outcome<(u64, Message)> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.any_request(left)? {
                (stream, Message::PublishNamespace(_) | Message::SubscribeNamespace(_)) => {
                    self.say(stream, &Message::RequestOk(RequestOk::default()));
                }
                request => return Ok(request),
            }
        }
    }

    fn any_request(&self, patience: Duration) -> Outcome<(u64, Message)> {
        let version = self.version;
        let taken = &self.taken;
        self.wait("a request of the relay's", patience, |quic| {
            quic.received.iter_mut().find_map(|(stream, received)| {
                if stream % 4 != 1 || taken.borrow().contains(stream) {
                    return None;
                }
                let message = take_frame(version, &mut received.bytes)?;
                taken.borrow_mut().insert(*stream);
                Some(message.map(|message| (*stream, message)))
            })
        })?
    }

    /// Waits for the end of what the relay sends on a stream; what comes before is left out.
    pub(super) fn ended(&self, stream: u64) -> Outcome<End> {
        self.wait("a stream's end", PATIENCE, |quic| quic.received.get(&stream)?.end)
    }

    /// Waits until the relay has given up a request: it wants no more of our answer, or resets its
    /// side. Gives its code.
    pub(super) fn given_up(&self, stream: u64, patience: Duration) -> Outcome<u64> {
        self.wait("a request given up", patience, |quic| {
            quic.note_stop(stream);
            match quic.received.get(&stream).and_then(|received| received.end) {
                Some(End::Reset(code)) => Some(code),
                _ => quic.stopped.get(&stream).copied(),
            }
        })
    }

    /// What is there of the relay's unidirectional streams but the control stream: number, bytes
    /// and end.
    pub(super) fn data_streams(&self) -> Vec<(u64, Bytes, Option<End>)> {
        let control = self.relays_control();
        self.quic(|quic| {
            quic.received
                .iter()
                .filter(|(stream, _)| **stream % 4 == 3 && Some(**stream) != control)
                .map(|(stream, received)| {
                    (*stream, Bytes::copy_from_slice(&received.bytes), received.end)
                })
                .collect()
        })
    }

    /// The next datagram, waited for.
    pub(super) fn next_datagram(&self, patience: Duration) -> Outcome<Bytes> {
        self.wait("a datagram", patience, |quic| quic.datagrams.pop_front())
    }

    /// Serves all connections until `look` finds something on this one.
    pub(super) fn until<T>(
        &self,
        expected: &str,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Outcome<T> {
        self.until_within(expected, PATIENCE, &mut look)
    }

    pub(super) fn until_within<T>(
        &self,
        expected: &str,
        patience: Duration,
        look: &mut dyn FnMut(&Self) -> Option<T>,
    ) -> Outcome<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if deadline <= Instant::now() {
                let waited = format!("nothing within {} ms", patience.as_millis());
                return Err(Failure::new(expected, waited));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut turned = false;
            // One turn of the network, unless the connection is over.
            self.wait(expected, left, |_| std::mem::replace(&mut turned, true).then_some(()))?;
        }
    }

    // What is expected.

    /// Waits for the session to be closed with one of `codes`.
    pub(super) fn closes_with(&self, codes: &[u64], patience: Duration) -> Outcome {
        let names: Vec<String> = codes
            .iter()
            .map(|code| aip_codec::moqt::error_code::SessionCode(*code).to_string())
            .collect();
        let expected = format!("the session closed with {}", names.join(" or "));
        let closed = self.wait(&expected, patience, |quic| quic.closed())?;
        match closed {
            Closed::Session { code, .. } if codes.contains(&code) => Ok(()),
            other => Err(Failure::new(expected, other.to_string())),
        }
    }

    /// Whether the relay still answers this session: asks for the status of a track that nobody
    /// publishes, within two seconds.
    pub(super) fn answers(&self) -> Outcome {
        let status = super::build::track_status(self.request_id(), &super::build::nobodys_track());
        let stream = self.request(&status);
        // Ended, so that the stream may be counted as done by both.
        self.finish(stream);
        match self.heard_within(stream, CANARY_PATIENCE) {
            Ok(Heard::Message(Message::RequestError(_) | Message::RequestOk(RequestOk { .. }))) => {
                Ok(())
            }
            Ok(other) => Err(Failure::new(
                "an answer to TRACK_STATUS on a session that is in order",
                format!("{other:?}"),
            )),
            Err(failure) => Err(Failure::new(
                "an answer to TRACK_STATUS within 2 s on a session that is in order",
                failure.received,
            )),
        }
    }
}

/// How long an innocent session may wait for an answer.
pub(super) const CANARY_PATIENCE: Duration = Duration::from_secs(2);

/// The SETUP of a well-behaved client.
pub(super) fn setup_of(endpoint: &Endpoint) -> Setup {
    let path = endpoint.url.path();
    // Over HTTP/3 the request has said both.
    let is_said = endpoint.is_webtransport();
    let authority = endpoint.url.authority();
    Setup {
        path: (!is_said && !path.is_empty()).then(|| Bytes::from(path.to_owned())),
        authority: (!is_said).then(|| Bytes::from(authority.to_owned())),
        implementation: Some(Bytes::from_static(b"aip-conformance")),
        max_auth_token_cache_size: 1_024,
        ..Setup::default()
    }
}

/// The message's bytes. Cases build only messages that their draft has.
pub(super) fn encode(version: Version, message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message
        .encode(version, &mut out)
        .unwrap_or_else(|error| panic!("a case built {message:?} for {version:?}: {error}"));
    out.freeze()
}

/// Takes the frame at the front of `bytes`, if it is whole.
fn take_frame(version: Version, bytes: &mut Vec<u8>) -> Option<Outcome<Message>> {
    let (code, size) = varint::decode(bytes).ok()?;
    let length = u16::from_be_bytes([*bytes.get(size)?, *bytes.get(size + 1)?]);
    let end = size + 2 + usize::from(length);
    if bytes.len() < end {
        return None;
    }
    let body = Bytes::copy_from_slice(&bytes[size + 2..end]);
    bytes.drain(..end);
    let decoded = MessageType::from_code(version, code)
        .and_then(|kind| Message::decode(version, kind, body.clone()));
    Some(decoded.map_err(|error| {
        Failure::new("a message of this draft", format!("type 0x{code:x}, {body:02x?}: {error}"))
    }))
}

/// The message's name, for people.
pub(super) fn name(message: &Message) -> String {
    match message {
        Message::RequestError(error) => format!("REQUEST_ERROR {} {}", error.code, error.reason),
        other => format!("{other:?}"),
    }
}
