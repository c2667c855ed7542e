//! Data that the peer sends: subgroups, fetch responses, datagrams; and its control stream.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::{
    DecodeError,
    moqt::{
        datagram::{Datagram, ObjectDatagram},
        error_code::{PublishDoneCode, ResetCode},
        id::{RequestId, TrackAlias},
        message::PublishDone,
        parameter::GroupOrder,
        stream::{StreamType, fetch, subgroup},
    },
};
use bytes::{Bytes, BytesMut};

use super::{
    Event, Misbehavior, ReceivedObject, Session, SessionError, State as SessionState, StreamEnd,
    request::{HeldDone, Kind, Request},
};
use crate::transport::{Action, StreamId};

/// Bytes of progress after which a slow object's time starts again.
const PROGRESS_BYTES: usize = 16 * 1024;

/// How long a subscription that fell behind is held for the streams that were sent before.
const BEHIND_GRACE: Duration = Duration::from_millis(500);

/// A unidirectional stream of the peer's.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Its type is not whole yet.
    Untyped(BytesMut),
    Control,
    Subgroup(SubgroupStream),
    Fetch(FetchStream),
    Padding,
}

#[derive(Debug)]
pub(super) struct SubgroupStream {
    decoder: Box<subgroup::Decoder>,
    alias: Option<TrackAlias>,
    /// The header, while its alias is unknown; the stream is paused then.
    held: Option<(subgroup::SubgroupHeader, bool)>,
    progress: usize,
}

#[derive(Debug)]
pub(super) struct FetchStream {
    decoder: Box<fetch::Decoder>,
    request: Option<RequestId>,
    progress: usize,
}

/// Streams and datagrams whose track alias is not known (yet).
#[derive(Debug, Default)]
pub(super) struct UnknownAlias {
    streams: BTreeMap<TrackAlias, Vec<StreamId>>,
    streams_by_deadline: VecDeque<(Instant, TrackAlias, StreamId)>,
    datagrams: VecDeque<(Instant, ObjectDatagram)>,
    stream_count: usize,
}

impl UnknownAlias {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stream = self.streams_by_deadline.front().map(|(deadline, ..)| *deadline);
        let datagram = self.datagrams.front().map(|(deadline, _)| *deadline);
        stream.into_iter().chain(datagram).min()
    }
}

impl Session {
    pub(super) fn receive_unidirectional(
        &mut self,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) -> Result<(), SessionError> {
        if self.is_early(stream) {
            self.keep_for_later(stream, bytes, fin);
            return Ok(());
        }
        let incoming = self.incoming.get_mut(&stream);
        match incoming {
            None | Some(Incoming::Untyped(_)) => self.receive_untyped(stream, bytes, fin, now)?,
            Some(Incoming::Control) => self.receive_control(stream, bytes, now)?,
            Some(Incoming::Subgroup(subgroup)) => {
                subgroup.progress += bytes.len();
                subgroup.decoder.push(bytes);
                if subgroup.held.is_none() {
                    self.drain_subgroup(stream, now)?;
                }
            }
            Some(Incoming::Fetch(fetch)) => {
                fetch.progress += bytes.len();
                fetch.decoder.push(bytes);
                self.drain_fetch(stream, now)?;
            }
            Some(Incoming::Padding) => {}
        }
        if fin { self.unidirectional_ended(stream, StreamEnd::Fin, now) } else { Ok(()) }
    }

    /// Finds out what a new stream carries, once its first varint is here.
    fn receive_untyped(
        &mut self,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) -> Result<(), SessionError> {
        let bytes = match self.incoming.remove(&stream) {
            Some(Incoming::Untyped(mut held)) => {
                held.extend_from_slice(&bytes);
                held.freeze()
            }
            _ => bytes,
        };
        let stream_type = match StreamType::decode(&bytes) {
            Ok(stream_type) => stream_type,
            Err(DecodeError::Incomplete) => {
                self.incoming.insert(stream, Incoming::Untyped(BytesMut::from(&bytes[..])));
                let deadline = now + self.config.control_message_timeout;
                self.partial.note(stream, true, deadline, true);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.partial.forget(stream);
        if stream_type != StreamType::Control && !matches!(self.state, SessionState::Established) {
            self.keep_for_later(stream, bytes, fin);
            return Ok(());
        }
        let incoming = match stream_type {
            StreamType::Control => {
                if self.control.incoming.replace(stream).is_some() {
                    return Err(Misbehavior::SecondControlStream.into());
                }
                Incoming::Control
            }
            StreamType::Subgroup => Incoming::Subgroup(SubgroupStream {
                decoder: Box::new(subgroup::Decoder::new()),
                alias: None,
                held: None,
                progress: 0,
            }),
            StreamType::Fetch => Incoming::Fetch(FetchStream {
                decoder: Box::new(fetch::Decoder::new(self.version, GroupOrder::Ascending)),
                request: None,
                progress: 0,
            }),
            StreamType::Padding => Incoming::Padding,
        };
        self.incoming.insert(stream, incoming);
        self.receive_unidirectional(stream, bytes, false, now)
    }

    fn drain_subgroup(&mut self, stream: StreamId, now: Instant) -> Result<(), SessionError> {
        loop {
            let Some(Incoming::Subgroup(subgroup)) = self.incoming.get_mut(&stream) else {
                return Ok(());
            };
            let Some(item) = subgroup.decoder.poll()? else { break };
            match item {
                subgroup::Item::Header(header) => {
                    if !self.subgroup_opened(stream, header, now) {
                        return Ok(());
                    }
                }
                subgroup::Item::Object { header, wire, wire_has_payload, payload, last } => {
                    subgroup.progress = PROGRESS_BYTES;
                    let object = ReceivedObject { header, wire, wire_has_payload, payload, last };
                    self.events.push_back(Event::Object { stream, object });
                }
                subgroup::Item::Payload { bytes, last } => {
                    self.events.push_back(Event::Payload { stream, bytes, last });
                }
            }
        }
        let deadline = now + self.config.data_stream_timeout;
        if let Some(Incoming::Subgroup(subgroup)) = self.incoming.get_mut(&stream) {
            let partial = subgroup.decoder.finish().is_err();
            if PROGRESS_BYTES <= subgroup.progress {
                subgroup.progress = 0;
                self.partial.restart(stream);
            }
            self.partial.note(stream, partial, deadline, false);
        }
        Ok(())
    }

    /// A subgroup's header is here: tells of it, or holds the stream while its alias is unknown.
    fn subgroup_opened(
        &mut self,
        stream: StreamId,
        header: subgroup::SubgroupHeader,
        now: Instant,
    ) -> bool {
        let alias = header.track_alias;
        if self.aliases.contains(alias) {
            self.count_stream(alias, true);
            if let Some(Incoming::Subgroup(subgroup)) = self.incoming.get_mut(&stream) {
                subgroup.alias = Some(alias);
            }
            self.events.push_back(Event::SubgroupOpened { stream, header });
            return true;
        }
        self.partial.forget(stream);
        if self.config.unknown_alias_streams_max <= self.unknown_alias.stream_count {
            self.stop_incoming(stream, ResetCode::CANCELLED);
            return false;
        }
        if let Some(Incoming::Subgroup(subgroup)) = self.incoming.get_mut(&stream) {
            subgroup.held = Some((header, false));
        }
        self.unknown_alias.stream_count += 1;
        self.unknown_alias.streams.entry(alias).or_default().push(stream);
        let deadline = now + self.config.unknown_alias_timeout;
        self.unknown_alias.streams_by_deadline.push_back((deadline, alias, stream));
        self.act(Action::Pause { stream });
        false
    }

    /// An alias has become known: lets come what was held for it.
    pub(super) fn release_unknown_alias(&mut self, alias: TrackAlias) -> Result<(), SessionError> {
        for stream in self.unknown_alias.streams.remove(&alias).unwrap_or_default() {
            self.unknown_alias.stream_count -= 1;
            let Some(Incoming::Subgroup(subgroup)) = self.incoming.get_mut(&stream) else {
                continue;
            };
            let Some((header, fin)) = subgroup.held.take() else { continue };
            subgroup.alias = Some(alias);
            self.count_stream(alias, true);
            self.events.push_back(Event::SubgroupOpened { stream, header });
            self.act(Action::Resume { stream });
            let now = self
                .unknown_alias
                .streams_by_deadline
                .iter()
                .find(|(_, _, other)| *other == stream)
                .map(|(deadline, ..)| *deadline - self.config.unknown_alias_timeout);
            self.unknown_alias.streams_by_deadline.retain(|(_, _, other)| *other != stream);
            let Some(now) = now else { continue };
            self.drain_subgroup(stream, now)?;
            if fin {
                self.unidirectional_ended(stream, StreamEnd::Fin, now)?;
            }
        }
        let held = std::mem::take(&mut self.unknown_alias.datagrams);
        let (known, unknown): (VecDeque<_>, VecDeque<_>) =
            held.into_iter().partition(|(_, object)| object.track_alias == alias);
        self.unknown_alias.datagrams = unknown;
        self.events.extend(known.into_iter().map(|(_, object)| Event::Datagram { object }));
        Ok(())
    }

    /// Gives up what was held too long.
    pub(super) fn drop_unknown_aliases(&mut self, now: Instant) {
        while let Some((deadline, alias, stream)) =
            self.unknown_alias.streams_by_deadline.front().copied()
        {
            if now < deadline {
                break;
            }
            self.unknown_alias.streams_by_deadline.pop_front();
            if let Some(streams) = self.unknown_alias.streams.get_mut(&alias) {
                streams.retain(|other| *other != stream);
                if streams.is_empty() {
                    self.unknown_alias.streams.remove(&alias);
                }
                self.unknown_alias.stream_count -= 1;
                self.stop_incoming(stream, ResetCode::CANCELLED);
            }
        }
        while self.unknown_alias.datagrams.front().is_some_and(|(deadline, _)| *deadline <= now) {
            self.unknown_alias.datagrams.pop_front();
        }
    }

    fn drain_fetch(&mut self, stream: StreamId, now: Instant) -> Result<(), SessionError> {
        loop {
            let Some(Incoming::Fetch(fetch)) = self.incoming.get_mut(&stream) else {
                return Ok(());
            };
            let Some(item) = fetch.decoder.poll()? else { break };
            let request = fetch.request;
            match (item, request) {
                (fetch::Item::Header(header), _) => {
                    if !self.fetch_opened(stream, header.request_id) {
                        return Ok(());
                    }
                }
                (fetch::Item::Object { header, payload, last }, Some(request)) => {
                    fetch.progress = PROGRESS_BYTES;
                    self.events.push_back(Event::FetchObject {
                        request,
                        object: header,
                        payload,
                        last,
                    });
                }
                (fetch::Item::Payload { bytes, last }, Some(request)) => {
                    self.events.push_back(Event::FetchPayload { request, bytes, last });
                }
                (fetch::Item::Range { kind, end }, Some(request)) => {
                    self.events.push_back(Event::FetchRange { request, kind, end });
                }
                (_, None) => return Ok(()),
            }
        }
        let deadline = now + self.config.data_stream_timeout;
        if let Some(Incoming::Fetch(fetch)) = self.incoming.get_mut(&stream) {
            let partial = fetch.decoder.finish().is_err();
            if PROGRESS_BYTES <= fetch.progress {
                fetch.progress = 0;
                self.partial.restart(stream);
            }
            self.partial.note(stream, partial, deadline, false);
        }
        Ok(())
    }

    /// A fetch stream's header is here; false if nobody waits for it.
    fn fetch_opened(&mut self, stream: StreamId, request: RequestId) -> bool {
        let fill = self.fills.get(&request).copied();
        let owner = fill.map_or(request, |(owner, _)| owner);
        let order = match self.requests.get_mut(owner).map(|entry| &mut entry.kind) {
            Some(Kind::FetchSent(fetch)) if fetch.data.is_none() => {
                fetch.data = Some(stream);
                fetch.order
            }
            Some(Kind::Subscription(subscription)) => {
                subscription.streams_seen += 1;
                subscription.streams_open += 1;
                fill.map_or(subscription.fill_order, |(_, order)| order)
            }
            _ => {
                self.stop_incoming(stream, ResetCode::CANCELLED);
                return false;
            }
        };
        if let Some(Incoming::Fetch(fetch)) = self.incoming.get_mut(&stream) {
            fetch.request = Some(request);
            fetch.decoder.set_order(order);
        }
        true
    }

    /// A unidirectional stream of the peer's ended.
    pub(super) fn unidirectional_ended(
        &mut self,
        stream: StreamId,
        end: StreamEnd,
        now: Instant,
    ) -> Result<(), SessionError> {
        if let Some(Incoming::Subgroup(subgroup)) = self.incoming.get_mut(&stream)
            && let Some((_, fin)) = &mut subgroup.held
            && end == StreamEnd::Fin
        {
            // Told when the alias is known.
            *fin = true;
            return Ok(());
        }
        self.partial.forget(stream);
        if end != StreamEnd::Fin {
            self.forget_early(stream);
        }
        match self.incoming.remove(&stream) {
            Some(Incoming::Control) => {
                self.control_stream_closed(now);
                Ok(())
            }
            Some(Incoming::Subgroup(subgroup)) => {
                if end == StreamEnd::Fin {
                    subgroup.decoder.finish()?;
                }
                if let Some(alias) = subgroup.alias {
                    self.events.push_back(Event::SubgroupEnded { stream, end });
                    self.count_stream(alias, false);
                } else if subgroup.held.is_some() {
                    self.forget_held(stream);
                }
                Ok(())
            }
            Some(Incoming::Fetch(fetch)) => {
                if end == StreamEnd::Fin {
                    fetch.decoder.finish()?;
                }
                if let Some(request) = fetch.request {
                    self.events.push_back(Event::FetchEnded { request, end });
                    self.fetch_data_ended(request);
                }
                Ok(())
            }
            Some(Incoming::Untyped(_)) if end == StreamEnd::Fin => {
                Err(DecodeError::Incomplete.into())
            }
            Some(Incoming::Untyped(_) | Incoming::Padding) | None => Ok(()),
        }
    }

    fn forget_held(&mut self, stream: StreamId) {
        self.unknown_alias.streams_by_deadline.retain(|(_, _, other)| *other != stream);
        self.unknown_alias.stream_count -= 1;
        self.unknown_alias.streams.retain(|_, streams| {
            streams.retain(|other| *other != stream);
            !streams.is_empty()
        });
    }

    fn fetch_data_ended(&mut self, request: RequestId) {
        let owner = self.fills.get(&request).map_or(request, |(owner, _)| *owner);
        let Some(Request { kind, .. }) = self.requests.get_mut(owner) else { return };
        match kind {
            Kind::FetchSent(fetch) => {
                fetch.data_ended = true;
                self.end_fetch_if_complete(owner);
            }
            Kind::Subscription(subscription) => {
                subscription.streams_open = subscription.streams_open.saturating_sub(1);
                self.finish_subscription_if_complete(owner);
            }
            _ => {}
        }
        self.fills.remove(&request);
    }

    /// A FETCH of ours is over when it is answered and its data has ended.
    pub(super) fn end_fetch_if_complete(&mut self, fetch: RequestId) {
        let complete = self.requests.get(fetch).is_some_and(|request| {
            request.state == super::request::State::Established
                && matches!(&request.kind, Kind::FetchSent(fetch) if fetch.data_ended)
        });
        if complete {
            self.end_request(fetch);
            self.events.push_back(Event::Ended { request: fetch });
        }
    }

    /// Counts a data stream's beginning or end for the subscriptions that its alias serves.
    fn count_stream(&mut self, alias: TrackAlias, began: bool) {
        let subscriptions = self.aliases.subscriptions(alias).to_vec();
        for id in subscriptions {
            if let Some(Request { kind: Kind::Subscription(subscription), .. }) =
                self.requests.get_mut(id)
            {
                if began {
                    subscription.streams_seen += 1;
                    subscription.streams_open += 1;
                } else {
                    subscription.streams_open = subscription.streams_open.saturating_sub(1);
                }
            }
            if !began {
                self.finish_subscription_if_complete(id);
            }
        }
    }

    /// PUBLISH_DONE is here. It is told once the streams it counts have come and ended.
    pub(super) fn publish_done_received(&mut self, id: RequestId, done: PublishDone, now: Instant) {
        let is_cut =
            matches!(done.code, PublishDoneCode::TOO_FAR_BEHIND | PublishDoneCode::MALFORMED_TRACK);
        let wait = if is_cut {
            // Streams were given up before they were begun: waiting for all it counts would be in
            // vain.
            BEHIND_GRACE.min(self.config.unknown_alias_timeout)
        } else {
            self.config.unknown_alias_timeout
        };
        let deadline = now + wait;
        let Some(request) = self.requests.get_mut(id) else { return };
        let Kind::Subscription(subscription) = &mut request.kind else { return };
        subscription.done = Some(HeldDone { body: done, deadline, put_off: false });
        self.done_deadlines.insert((deadline, id));
        self.finish_subscription_if_complete(id);
    }

    fn finish_subscription_if_complete(&mut self, id: RequestId) {
        let complete = self.requests.get(id).is_some_and(|request| {
            matches!(&request.kind, Kind::Subscription(subscription) if subscription.is_complete())
        });
        if complete {
            self.finish_subscription(id);
        }
    }

    /// Tells of a PUBLISH_DONE that was held back.
    pub(super) fn finish_subscription(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let Kind::Subscription(subscription) = &mut request.kind else { return };
        let Some(HeldDone { body, deadline, .. }) = subscription.done.take() else { return };
        self.done_deadlines.remove(&(deadline, id));
        self.end_request(id);
        self.events.push_back(Event::PublishDone { request: id, body });
    }

    /// A PUBLISH_DONE was held back for its time. Put off once if a stream is still open, which
    /// is bounded by the time that an object may take.
    pub(super) fn done_overdue(&mut self, id: RequestId, now: Instant) {
        let later = now + self.config.data_stream_timeout;
        if let Some(Request { kind: Kind::Subscription(subscription), .. }) =
            self.requests.get_mut(id)
            && 0 < subscription.streams_open
            && let Some(done) = subscription.done.as_mut()
            && !done.put_off
            && done.body.code != PublishDoneCode::TOO_FAR_BEHIND
        {
            self.done_deadlines.remove(&(done.deadline, id));
            done.deadline = later;
            done.put_off = true;
            self.done_deadlines.insert((later, id));
            return;
        }
        self.finish_subscription(id);
    }

    /// Reads no more of a data stream of the peer's; nothing more is told of it.
    pub fn stop_incoming(&mut self, stream: StreamId, code: ResetCode) {
        self.partial.forget(stream);
        if let Some(incoming) = self.incoming.remove(&stream) {
            self.act(Action::Stop { stream, code: code.0 });
            match incoming {
                Incoming::Subgroup(SubgroupStream { alias: Some(alias), .. }) => {
                    self.count_stream(alias, false);
                }
                Incoming::Fetch(FetchStream { request: Some(request), .. }) => {
                    self.fetch_data_ended(request);
                }
                _ => {}
            }
        }
    }

    /// A datagram.
    pub fn handle_datagram(&mut self, bytes: Bytes, now: Instant) {
        if !self.is_established() {
            return;
        }
        let result = self.receive_datagram(bytes, now);
        self.close_on_error(result);
    }

    fn receive_datagram(&mut self, bytes: Bytes, now: Instant) -> Result<(), SessionError> {
        let Datagram::Object(object) = ObjectDatagram::decode(bytes)? else { return Ok(()) };
        if self.aliases.contains(object.track_alias) {
            self.events.push_back(Event::Datagram { object });
        } else {
            if self.config.unknown_alias_datagrams_max <= self.unknown_alias.datagrams.len() {
                self.unknown_alias.datagrams.pop_front();
            }
            let deadline = now + self.config.unknown_alias_timeout;
            self.unknown_alias.datagrams.push_back((deadline, object));
        }
        Ok(())
    }
}
