//! The subscribing side: one session, one subscription, and a short way for its objects.
//!
//! Control goes through the session; subgroup streams do not. An object that lies whole in one
//! chunk, as small ones do, is parsed and checked where it lies: nothing is allocated for it, and
//! nothing kept but what its stream needs to go on.

use aip_codec::moqt::{
    datagram::{Content, Datagram},
    error_code::ResetCode,
    id::RequestId,
    name::FullTrackName,
    parameter::Parameters,
    stream::subgroup::{Decoder, Item},
};
use aip_engine::{
    session::{Event, Response, Session},
    transport::{SessionId, Side, StreamId},
};
use bytes::Bytes;

use super::payload::{self, Arriving, Stamp};

/// What became of the subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum News {
    /// The session is established.
    Established,
    /// The subscription is accepted.
    Accepted,
    /// It is refused, or the publisher ended it, with these words.
    Ended(String),
}

/// An object that came whole: what it says, if it is right, and its payload's bytes.
pub(super) type Object = (Option<Stamp>, usize);

/// A subgroup stream that goes on.
#[derive(Debug)]
struct Reading {
    stream: StreamId,
    decoder: Decoder,
    arriving: Option<Arriving>,
    /// Its subscription was ended by us, so that a reset of it is no error. So is that of a stream
    /// that comes while none is accepted: it was on its way when we left.
    abandoned: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) id: SessionId,
    pub(super) session: Session,
    request: Option<RequestId>,
    accepted: bool,
    readings: Vec<Reading>,
}

impl Subscriber {
    /// A subscriber on a session that has just come up.
    pub(super) const fn new(id: SessionId, session: Session) -> Self {
        Self { id, session, request: None, accepted: false, readings: Vec::new() }
    }

    /// Subscribes. Says why not, if not.
    pub(super) fn subscribe(&mut self, track: &FullTrackName) -> Result<(), String> {
        let asked = self.session.subscribe(track.clone(), Parameters::default());
        self.request = Some(asked.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Ends the subscription; the session stays.
    pub(super) fn unsubscribe(&mut self) {
        if let Some(request) = self.request.take() {
            self.session.cancel(request, ResetCode::CANCELLED);
        }
        self.accepted = false;
        for reading in &mut self.readings {
            reading.abandoned = true;
        }
    }

    /// What the session has to tell of the subscription.
    pub(super) fn poll_news(&mut self) -> Option<News> {
        while let Some(event) = self.session.poll_event() {
            let news = match event {
                Event::Established { .. } => News::Established,
                Event::Response { request, body } if Some(request) == self.request => match body {
                    Response::SubscribeOk(_) => {
                        self.accepted = true;
                        News::Accepted
                    }
                    Response::Error(error) => {
                        self.request = None;
                        News::Ended(format!("SUBSCRIBE refused: {}", error.code.name()))
                    }
                    Response::FetchOk(_) | Response::Ok(_) => continue,
                },
                Event::PublishDone { request, body } if Some(request) == self.request => {
                    self.request = None;
                    News::Ended(format!("PUBLISH_DONE: {}", body.code.name()))
                }
                Event::Ended { request } if Some(request) == self.request => {
                    self.request = None;
                    News::Ended("subscription cancelled by the relay".to_owned())
                }
                Event::Goaway { .. } => News::Ended("GOAWAY".to_owned()),
                _ => continue,
            };
            return Some(news);
        }
        None
    }

    /// Takes a stream's bytes if it is a subgroup's, and tells of each object that is whole.
    pub(super) fn handle_stream(
        &mut self,
        stream: StreamId,
        bytes: &Bytes,
        fin: bool,
        mut object: impl FnMut(Object),
    ) -> Taken {
        let known = self.readings.iter().rposition(|reading| reading.stream == stream);
        if known.is_none() && !is_subgroup(stream, bytes) {
            return Taken::No;
        }
        let mut reading = match known {
            Some(index) => self.readings.swap_remove(index),
            None => Reading {
                stream,
                decoder: Decoder::new(),
                arriving: None,
                abandoned: !self.accepted,
            },
        };
        reading.decoder.push(bytes.clone());
        loop {
            match reading.decoder.poll() {
                Ok(Some(item)) => {
                    if let Some(whole) = reading.take(item) {
                        object(whole);
                    }
                }
                Ok(None) => break,
                Err(_) => return Taken::Malformed,
            }
        }
        if !fin {
            self.readings.push(reading);
        } else if reading.decoder.finish().is_err() {
            return Taken::Malformed;
        }
        Taken::Yes
    }

    /// Takes a reset if it is of a subgroup that is being read; says whether that is an error.
    pub(super) fn handle_reset(&mut self, stream: StreamId) -> Option<bool> {
        let known = self.readings.iter().rposition(|reading| reading.stream == stream);
        known.map(|index| !self.readings.swap_remove(index).abandoned)
    }

    /// The object that a datagram is.
    pub(super) fn handle_datagram(bytes: Bytes) -> Option<Object> {
        match Datagram::decode(bytes) {
            Ok(Datagram::Object(object)) => match object.content {
                Content::Payload(payload) => Some((payload::check(&payload), payload.len())),
                Content::Status(_) => None,
            },
            Ok(Datagram::Padding) => None,
            Err(_) => Some((None, 0)),
        }
    }
}

/// Whether bytes of a stream were an object's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    /// They were.
    Yes,
    /// They are for the session.
    No,
    /// They were to be, and are not.
    Malformed,
}

/// Whether a new stream is a subgroup's, by its first byte: the type of a subgroup is a varint of
/// one byte with bit 0x10, which no other stream's is.
fn is_subgroup(stream: StreamId, bytes: &Bytes) -> bool {
    !stream.is_bidirectional()
        && stream.opener() == Side::Server
        && bytes.first().is_some_and(|byte| byte & 0x90 == 0x10)
}

impl Reading {
    fn take(&mut self, item: Item) -> Option<Object> {
        match item {
            Item::Header(_) => None,
            // A status is no object.
            Item::Object { header, .. } if header.payload_length == 0 => None,
            Item::Object { payload, last: true, .. } => {
                Some((payload::check(&payload), payload.len()))
            }
            Item::Object { payload, .. } => {
                self.arriving.insert(Arriving::default()).push(&payload);
                None
            }
            Item::Payload { bytes, last } => {
                self.arriving.as_mut()?.push(&bytes);
                if last { Some(self.arriving.take()?.finish()) } else { None }
            }
        }
    }
}
