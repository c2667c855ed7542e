//! Our answers to the peer's requests.

use aip_codec::moqt::{
    error_code::{PublishDoneCode, RequestCode, ResetCode},
    id::{ObjectId, RequestId, TrackAlias},
    location::Location,
    message::{
        FetchOk, Message, Namespace, NamespaceDone, PublishDone, PublishSkipped,
        PublishStateNotify, Reason, RequestError, RequestOk, SubscribeOk,
    },
    name::TrackNamespace,
    parameter::Parameters,
    property::Properties,
};
use bytes::Bytes;

use super::{
    Event, Session,
    request::{Kind, Request, State},
};

/// An inclusive end as drafts 18 and 19 write it: one past the last object, 0 for the whole group.
pub(super) const fn end_exclusive(end: Location) -> Location {
    Location { group: end.group, object: ObjectId(end.object.0.wrapping_add(1)) }
}

impl Session {
    /// Accepts a SUBSCRIBE.
    pub fn accept_subscribe(
        &mut self,
        request: RequestId,
        track_alias: TrackAlias,
        parameters: Parameters,
        properties: Properties,
    ) {
        let ok = Message::SubscribeOk(SubscribeOk { track_alias, parameters, properties });
        self.accept_with(request, &ok);
    }

    /// Accepts any request but SUBSCRIBE and FETCH. `properties` only for TRACK_STATUS, which ends
    /// with it.
    pub fn accept(&mut self, request: RequestId, parameters: Parameters, properties: Properties) {
        self.accept_with(request, &Message::RequestOk(RequestOk { parameters, properties }));
        let is_status = self
            .requests
            .get(request)
            .is_some_and(|entry| matches!(entry.kind, Kind::TrackStatusReceived));
        if is_status {
            self.end_request(request);
        }
    }

    /// Accepts a FETCH. `end` is the last location, inclusive; an object number of `u64::MAX` is
    /// the whole group.
    pub fn accept_fetch(
        &mut self,
        request: RequestId,
        end_of_track: bool,
        end: Location,
        properties: Properties,
    ) {
        let end = if self.version.number() < 20 { end_exclusive(end) } else { end };
        let parameters = Parameters::default();
        let ok = Message::FetchOk(FetchOk { end_of_track, end, parameters, properties });
        self.accept_with(request, &ok);
        self.end_received_fetch_if_complete(request);
    }

    fn accept_with(&mut self, request: RequestId, message: &Message) {
        let Some(entry) = self.answerable(request) else { return };
        entry.state = State::Established;
        let stream = entry.stream;
        let held = std::mem::take(&mut entry.updates_held);
        self.queue_message(stream, message, false);
        self.events.extend(held.into_iter().map(|(update, parameters)| Event::Update {
            request,
            update,
            parameters,
        }));
    }

    /// Refuses a request of the peer's; it is over.
    pub fn reject(&mut self, request: RequestId, error: RequestError) {
        let Some(entry) = self.answerable(request) else { return };
        let stream = entry.stream;
        let data = match &entry.kind {
            Kind::FetchReceived(fetch) => fetch.data,
            _ => None,
        };
        if let Some(data) = data {
            self.reset_stream(data, ResetCode::CANCELLED);
        }
        self.queue_message(stream, &Message::RequestError(error), false);
        self.end_request(request);
    }

    /// Refuses a request of the peer's with a code and a reason.
    pub fn reject_with(&mut self, request: RequestId, code: RequestCode, reason: &str) {
        let reason = Reason::new(reason);
        self.reject(request, RequestError { code, retry_interval: 0, reason, redirect: None });
    }

    fn answerable(&mut self, request: RequestId) -> Option<&mut Request> {
        if self.is_closed() {
            return None;
        }
        self.requests
            .get_mut(request)
            .filter(|entry| !entry.kind.is_ours() && entry.state == State::Pending)
    }

    /// Accepts the oldest unanswered update of a request.
    pub fn accept_update(&mut self, request: RequestId, parameters: Parameters) {
        let Some(entry) = self.requests.get_mut(request) else { return };
        if entry.updates_received.pop_front().is_none() {
            return;
        }
        let stream = entry.stream;
        let properties = Properties::default();
        let ok = Message::RequestOk(RequestOk { parameters, properties });
        self.queue_message(stream, &ok, false);
    }

    /// Refuses the oldest unanswered update of a request, which ends the request, as the draft has
    /// it for each kind (draft-22 section 9.5); always followed by [`super::Event::Ended`].
    pub fn reject_update(&mut self, request: RequestId, code: RequestCode, reason: &str) {
        let Some(entry) = self.requests.get_mut(request) else { return };
        if entry.updates_received.pop_front().is_none() {
            return;
        }
        if entry.state == State::Pending {
            // The request is not answered yet: one refusal stands for both.
            self.reject_with(request, code, reason);
            self.events.push_back(Event::Ended { request });
            return;
        }
        let stream = entry.stream;
        let is_publication = matches!(entry.kind, Kind::Publication(_));
        let data: Vec<_> = match &entry.kind {
            Kind::FetchReceived(fetch) => fetch.data.into_iter().collect(),
            Kind::Publication(publication) => publication.streams.iter().copied().collect(),
            _ => Vec::new(),
        };
        let error =
            RequestError { code, retry_interval: 0, reason: Reason::new(reason), redirect: None };
        self.queue_message(stream, &Message::RequestError(error), false);
        self.events.push_back(Event::Ended { request });
        for data in data {
            self.reset_stream(data, ResetCode::CANCELLED);
        }
        if is_publication {
            self.publish_done(request, PublishDoneCode::UPDATE_FAILED, reason);
        } else {
            self.end_request(request);
        }
    }

    /// Tells a subscriber of a change (PUBLISH_STATE_NOTIFY; drafts 20 and later, else nothing).
    pub fn state_notify(&mut self, request: RequestId, parameters: Parameters) {
        let Some(entry) = self.requests.get(request) else { return };
        if 20 <= self.version.number()
            && entry.state == State::Established
            && matches!(entry.kind, Kind::Publication(_))
        {
            let message = Message::PublishStateNotify(PublishStateNotify { parameters });
            self.queue_message(entry.stream, &message, false);
        }
    }

    /// Ends a track that we send; said once its data streams are all sent or reset. Streams that
    /// are still open then must be finished or reset by the caller.
    pub fn publish_done(&mut self, request: RequestId, code: PublishDoneCode, reason: &str) {
        let Some(Request { kind: Kind::Publication(publication), .. }) =
            self.requests.get_mut(request)
        else {
            return;
        };
        let stream_count = Some(publication.stream_count);
        publication.done = Some(PublishDone { code, stream_count, reason: Reason::new(reason) });
        self.send_publish_done_if_complete(request);
    }

    pub(super) fn send_publish_done_if_complete(&mut self, request: RequestId) {
        let Some(Request { kind: Kind::Publication(publication), stream, .. }) =
            self.requests.get_mut(request)
        else {
            return;
        };
        if !publication.streams.is_empty() {
            return;
        }
        if let Some(mut done) = publication.done.take() {
            done.stream_count = Some(publication.stream_count);
            let stream = *stream;
            self.queue_message(stream, &Message::PublishDone(done), false);
            self.end_request(request);
        }
    }

    /// Tells a SUBSCRIBE_NAMESPACE of a namespace: what follows its prefix. `parameters` only to
    /// another relay ([`Self::peer_relay`]), which may be told of a namespace again.
    pub fn namespace(
        &mut self,
        request: RequestId,
        suffix: TrackNamespace,
        parameters: Parameters,
    ) {
        self.tell_watcher(request, &Message::Namespace(Namespace { suffix, parameters }));
    }

    /// Tells a SUBSCRIBE_NAMESPACE that a namespace is no more.
    pub fn namespace_done(&mut self, request: RequestId, suffix: TrackNamespace) {
        self.tell_watcher(request, &Message::NamespaceDone(NamespaceDone { suffix }));
    }

    /// Tells a SUBSCRIBE_TRACKS that a track will not be published to it.
    pub fn publish_skipped(&mut self, request: RequestId, suffix: TrackNamespace, name: Bytes) {
        self.tell_watcher(request, &Message::PublishSkipped(PublishSkipped { suffix, name }));
    }

    fn tell_watcher(&mut self, request: RequestId, message: &Message) {
        let Some(entry) = self.requests.get(request) else { return };
        let watches =
            matches!(entry.kind, Kind::NamespaceWatchReceived { .. } | Kind::TracksReceived { .. });
        if watches && entry.state == State::Established && !self.is_closed() {
            self.queue_message(entry.stream, message, false);
        }
    }
}
