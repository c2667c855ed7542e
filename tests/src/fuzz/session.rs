//! A session and a peer that sends whatever it likes.

use std::time::{Duration, Instant};

use aip_codec::moqt::{
    id::TrackAlias,
    name::{FullTrackName, TrackNamespace},
    parameter::Parameters,
    property::Properties,
};
use aip_engine::{
    session::{Config, Event, Request, Session},
    transport::{Action, Side, StreamId},
};
use bytes::Bytes;

use super::{choice, version};

/// What one step may be.
const STEPS: u8 = 8;
/// Streams of one kind that the peer uses.
const STREAMS: u8 = 8;
/// What our side may queue for the peer in answer to one byte, at most: no amplification.
const QUEUED_PER_BYTE_MAX: usize = 2_048;

/// Draft and side; then steps, each with a kind, a stream and its bytes.
///
/// # Panics
/// If what has to hold does not.
pub fn session(mut input: &[u8]) {
    let version = version(choice(&mut input));
    let side = if choice(&mut input).is_multiple_of(2) { Side::Client } else { Side::Server };
    #[expect(clippy::disallowed_methods, reason = "any instant: only differences matter")]
    let mut now = Instant::now();
    let mut story = Story {
        session: Session::new(Config::default(), side, version, now),
        closed: false,
        received: 0,
        queued: 0,
    };
    story.settle();
    while !input.is_empty() {
        step(&mut story, side, &mut input, &mut now);
        story.settle();
    }
    story.session.handle_closed();
    assert_eq!(story.session.poll_action(), None, "there is nobody to say it to");
}

fn step(story: &mut Story, side: Side, input: &mut &[u8], now: &mut Instant) {
    let kind = choice(input) % STEPS;
    let stream = choice(input);
    // Its low bit says whether it is one of ours, which the peer may only answer.
    let opener = if stream & 1 == 0 { side.peer() } else { side };
    let bidirectional = stream & 2 != 0 || opener == side;
    let stream = StreamId::new(opener, bidirectional, u64::from(stream >> 2 & (STREAMS - 1)));
    let session = &mut story.session;
    match kind {
        0..=2 => {
            let length = usize::from(choice(input)).min(input.len());
            let (bytes, rest) = input.split_at(length);
            *input = rest;
            story.received += length + 1;
            session.handle_stream(stream, Bytes::from(bytes.to_vec()), kind == 2, *now);
        }
        3 => session.handle_reset(stream, choice(input).into(), *now),
        4 => session.handle_stop(stream, choice(input).into(), *now),
        5 => {
            let length = usize::from(choice(input)).min(input.len());
            let (bytes, rest) = input.split_at(length);
            *input = rest;
            session.handle_datagram(Bytes::from(bytes.to_vec()), *now);
        }
        6 => {
            *now += Duration::from_millis(u64::from(choice(input)) * 100);
            session.handle_timeout(*now);
        }
        _ => ask(session, choice(input)),
    }
    story.received += 4;
}

/// Has our side ask for something, so that there is something to answer.
fn ask(session: &mut Session, what: u8) {
    let namespace = || TrackNamespace::new(["a", "b"]).expect("a short namespace");
    let track = || FullTrackName::new(namespace(), Bytes::from_static(b"t")).expect("short");
    let none = Parameters::default;
    // Whether it may be asked is for the session to say.
    match what % 6 {
        0 => drop(session.subscribe(track(), none())),
        1 => drop(session.publish(track(), TrackAlias(1), none(), Properties::default())),
        2 => drop(session.publish_namespace(namespace(), none())),
        3 => drop(session.subscribe_namespace(namespace(), none())),
        4 => drop(session.subscribe_tracks(namespace(), none())),
        _ => drop(session.track_status(track(), none())),
    }
}

struct Story {
    session: Session,
    closed: bool,
    /// Bytes and steps of the peer.
    received: usize,
    /// Bytes that wait for the peer.
    queued: usize,
}

impl Story {
    /// Does what the session wants and answers what the peer asks.
    fn settle(&mut self) {
        loop {
            if let Some(event) = self.session.poll_event() {
                self.answer(event);
            } else if let Some(action) = self.session.poll_action() {
                self.check(&action);
            } else {
                break;
            }
        }
        assert!(self.session.take_fault().is_none() || self.closed, "closed in silence");
        assert!(
            self.queued <= (self.received + 1) * QUEUED_PER_BYTE_MAX,
            "{} bytes for {}",
            self.queued,
            self.received
        );
    }

    fn check(&mut self, action: &Action) {
        assert!(!self.closed, "{action:?} after the end");
        match action {
            Action::Close { reason, .. } => {
                assert!(reason.len() <= 1_024, "a reason longer than what is sent");
                self.closed = true;
            }
            Action::Send { bytes, .. } | Action::SendDatagram { bytes, .. } => {
                self.queued += bytes.len();
            }
            Action::Reset { .. }
            | Action::Stop { .. }
            | Action::Prioritize { .. }
            | Action::Pause { .. }
            | Action::Resume { .. } => {}
        }
    }

    fn answer(&mut self, event: Event) {
        let Event::Request { request, body, .. } = event else { return };
        let none = Parameters::default;
        match body {
            Request::Subscribe(_) => {
                let alias = TrackAlias(request.0);
                self.session.accept_subscribe(request, alias, none(), Properties::default());
            }
            Request::Call(_) => {}
            Request::Publish(_)
            | Request::Fetch(_)
            | Request::TrackStatus(_)
            | Request::PublishNamespace(_)
            | Request::SubscribeNamespace(_)
            | Request::SubscribeTracks(_) => {
                self.session.accept(request, none(), Properties::default());
            }
        }
    }
}
