//! One side of a session outside of any connection, for fuzzers: whatever its peer sends, what it
//! holds is bounded, and what its driver is told makes sense.

use std::collections::{BTreeSet, VecDeque};

use aip_codec::{Version, moqt::error_code::SessionCode};
use bytes::Bytes;

use super::{
    CONNECT_STREAM, Destination, EARLY_BYTES_MAX, EARLY_MAX, Inward, Numbered, REQUESTS_MAX, Want,
    WebTransport,
};
use crate::{
    io::connection::Event,
    transport::{Action, Side, StreamId},
};

/// Wants that one event may cause: each stream that came early is turned away, both ways.
const WANTS_MAX: usize = 2 * EARLY_MAX + 8;

/// One side, and what it has been told and has said. Each call checks what has to hold.
#[derive(Debug)]
pub struct Probe {
    session: WebTransport,
    events: VecDeque<Event>,
    /// The peer's streams that have begun,
    begun: BTreeSet<u64>,
    /// and streams of which nothing more can come.
    over: BTreeSet<u64>,
    is_up: bool,
    has_ended: bool,
}

impl Probe {
    /// A side that has heard nothing.
    pub fn new(is_server: bool) -> Self {
        let session = if is_server {
            WebTransport::server(&Version::PREFERENCE)
        } else {
            let (authority, path) = ("relay.example".to_owned(), "/".to_owned());
            WebTransport::client(&Version::PREFERENCE, Destination { authority, path })
        };
        Self {
            session,
            events: VecDeque::new(),
            begun: BTreeSet::new(),
            over: BTreeSet::new(),
            is_up: false,
            has_ended: false,
        }
    }

    /// A piece of a stream, if one can come.
    pub fn receive(&mut self, stream: u64, bytes: Bytes, fin: bool) {
        if self.begin(stream) && (fin || !bytes.is_empty()) {
            if fin {
                self.over.insert(stream);
            }
            self.handle(Event::Stream { stream: StreamId(stream), bytes, fin });
        }
    }

    /// The peer resets a stream, if it can.
    pub fn reset(&mut self, stream: u64, code: u64) {
        if self.begin(stream) {
            self.over.insert(stream);
            self.handle(Event::Reset { stream: StreamId(stream), code });
        }
    }

    /// The peer wants no more of a stream.
    pub fn stop(&mut self, stream: u64, code: u64) {
        let stream = StreamId(stream);
        if stream.opener() == self.session.side || self.begun.contains(&stream.0) {
            self.handle(Event::Stop { stream, code });
        }
    }

    /// A datagram.
    pub fn datagram(&mut self, bytes: Bytes) {
        self.handle(Event::Datagram(bytes));
    }

    /// The driver sends, once it may.
    pub fn send(&mut self, stream: u64, bytes: Bytes, fin: bool) {
        let stream = StreamId(stream);
        let length = bytes.len();
        if let Some((_, Action::Send { stream, .. })) =
            self.act(Action::Send { stream, bytes, fin })
        {
            self.handle(Event::Sent { stream, length });
        }
    }

    /// The driver wants no more of a stream.
    pub fn refuse(&mut self, stream: u64) {
        if self.is_up {
            let stop = Action::Stop { stream: StreamId(stream), code: 1 };
            if let Some((_, Action::Stop { stream, .. })) = self.act(stop) {
                self.over.insert(stream.0);
            }
        }
    }

    /// The driver closes the session, and everything is sent.
    pub fn close(&mut self) {
        if self.is_up && !self.has_ended {
            let (code, reason) = (SessionCode::NO_ERROR, String::new());
            self.act(Action::Close { code, reason });
            self.session.say_farewell(code, "over");
            self.has_ended = true;
            self.check();
        }
    }

    /// Nothing more is to be read for now.
    pub fn finish(&mut self) {
        self.session.finish(&mut self.events);
        self.check();
    }

    /// Whether a stream's bytes can come from the peer.
    fn begin(&mut self, stream: u64) -> bool {
        let id = StreamId(stream);
        let ours = id.opener() == self.session.side;
        let is_open = id == CONNECT_STREAM || self.session.is_open();
        if self.over.contains(&stream) || (ours && !(id.is_bidirectional() && is_open)) {
            return false;
        }
        self.begun.insert(stream);
        true
    }

    fn act(&mut self, action: Action) -> Option<(Option<Bytes>, Action)> {
        let done = self.session.outward(action, &mut Numbered::default());
        self.check();
        done
    }

    fn handle(&mut self, event: Event) {
        let failed = self.session.failed;
        self.session.handle(event, &mut self.events);
        assert!(!failed || self.events.is_empty(), "heard after a fault: {:?}", self.events);
        self.check();
    }

    fn check(&mut self) {
        let mut wants = 0;
        while let Some(want) = self.session.poll_want() {
            wants += 1;
            if let Want::Stop { stream, .. } = want {
                self.over.insert(stream.0);
            }
        }
        assert!(wants <= WANTS_MAX, "{wants} wants");
        self.check_sizes();
        for event in self.events.drain(..) {
            assert!(!self.has_ended || matches!(event, Event::Sent { .. }), "{event:?} at the end");
            match event {
                Event::Connected { .. } => {
                    assert!(!self.is_up, "connected twice");
                    self.is_up = true;
                }
                Event::Failed(_) => {
                    assert!(!self.is_up && self.session.side == Side::Client);
                    self.has_ended = true;
                }
                Event::Closed(_) => {
                    assert!(self.is_up);
                    self.has_ended = true;
                }
                _ => assert!(self.is_up, "{event:?} before the session"),
            }
        }
    }

    fn check_sizes(&self) {
        let session = &self.session;
        let going_on = self.begun.difference(&self.over).count();
        // The CONNECT stream is known to its session's end, and a request that waits may have ended.
        // Once there is no session any more, nothing is heard that could be known.
        let is_bounded = session.inward.len() <= going_on + 2;
        assert!(is_bounded || session.failed || self.has_ended, "{:?}", session.inward);
        let held = session.inward.values().filter(|it| matches!(it, Inward::Held(..))).count();
        assert!(held <= 1, "{held} requests wait");
        let early: usize = session.early.iter().map(|(_, event)| length(event)).sum();
        assert_eq!(early, session.early_bytes);
        assert!(early <= EARLY_BYTES_MAX && session.early.len() <= EARLY_MAX);
        assert!(session.refusals.len() <= REQUESTS_MAX as usize);
    }
}

const fn length(event: &Event) -> usize {
    match event {
        Event::Stream { bytes, .. } | Event::Datagram(bytes) => bytes.len(),
        _ => 0,
    }
}
