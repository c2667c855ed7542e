//! Requests of ours: SUBSCRIBE, PUBLISH, FETCH and the rest, their updates and their end.

use aip_codec::{
    Version,
    moqt::{
        error_code::ResetCode,
        filter::LocationFilter,
        id::{RequestId, TrackAlias},
        location::Location,
        message::{
            Fetch, FetchTarget, FrameDecoder, Message, Publish, PublishNamespace, RequestUpdate,
            Subscribe, SubscribeNamespace, SubscribeTracks, TrackStatus,
        },
        name::{FullTrackName, TrackNamespace},
        parameter::{GroupOrder, Parameter, Parameters},
        property::Properties,
    },
};
use bytes::Bytes;
use std::collections::BTreeSet;

use super::{
    Session,
    request::{FetchSent, Kind, Publication, Request, State, Subscription, fill_order},
};
use crate::schedule::Precedence;
use crate::transport::Action;

/// Why a request cannot be made on this session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AskError {
    /// Either side has closed.
    #[error("the session is closed")]
    Closed,
    /// The peer is going away and takes no new requests.
    #[error("the peer is going away")]
    GoingAway,
    /// CALL before the peer's SETUP, or the peer did not offer AIP.
    #[error("the peer does not speak AIP calls")]
    CallsUnsupported,
    /// The session's draft has no form for it.
    #[error("this draft has no form for the request")]
    Unsupported,
    /// There is no such request, or it takes no update.
    #[error("no such request")]
    UnknownRequest,
    /// The peer has too many of our updates unanswered.
    #[error("too many unanswered updates")]
    TooManyUpdates,
}

impl Session {
    /// Asks for a track's objects (SUBSCRIBE).
    ///
    /// # Errors
    /// If the session cannot take requests.
    pub fn subscribe(
        &mut self,
        track: FullTrackName,
        parameters: Parameters,
    ) -> Result<RequestId, AskError> {
        let kind = Kind::Subscription(Subscription::new(track.clone(), false, &parameters));
        self.ask(kind, |request_id| Message::Subscribe(Subscribe { request_id, track, parameters }))
    }

    /// Offers a track (PUBLISH); its objects may follow at once under `track_alias`.
    ///
    /// # Errors
    /// If the session cannot take requests.
    pub fn publish(
        &mut self,
        track: FullTrackName,
        track_alias: TrackAlias,
        parameters: Parameters,
        properties: Properties,
    ) -> Result<RequestId, AskError> {
        let kind = Kind::Publication(Publication::new(track.clone(), true));
        self.ask(kind, |request_id| {
            Message::Publish(Publish { request_id, track, track_alias, parameters, properties })
        })
    }

    /// Asks for past objects (FETCH).
    ///
    /// # Errors
    /// If the session cannot take requests, or its draft has no form for `target`.
    pub fn fetch(
        &mut self,
        target: FetchTarget,
        parameters: Parameters,
    ) -> Result<RequestId, AskError> {
        let start = match &target {
            FetchTarget::Track(_) if self.version < Version::Draft20 => {
                return Err(AskError::Unsupported);
            }
            FetchTarget::Standalone { .. } | FetchTarget::Joining { .. }
                if Version::Draft20 <= self.version =>
            {
                return Err(AskError::Unsupported);
            }
            FetchTarget::Standalone { start, .. } => Some(*start),
            FetchTarget::Track(_) => absolute_start(&parameters),
            FetchTarget::Joining { .. } => None,
        };
        let order = parameters.group_order().unwrap_or_default();
        let kind = Kind::FetchSent(FetchSent { order, start, data: None, data_ended: false });
        self.ask(kind, |request_id| Message::Fetch(Fetch { request_id, target, parameters }))
    }

    /// Asks for a past range of a track, in the form that the session's draft has for it.
    /// `end` is inclusive; an object number of `u64::MAX` is the whole group.
    ///
    /// # Errors
    /// If the session cannot take requests.
    pub fn fetch_range(
        &mut self,
        track: FullTrackName,
        start: Location,
        end: Location,
        parameters: Parameters,
    ) -> Result<RequestId, AskError> {
        if self.version < Version::Draft20 {
            let end = super::answer::end_exclusive(end);
            return self.fetch(FetchTarget::Standalone { track, start, end }, parameters);
        }
        let filter = if end.object.0 == u64::MAX {
            LocationFilter::Groups { start, end_group: end.group }
        } else {
            LocationFilter::Range { start, end }
        };
        let parameters = parameters.with(Parameter::LocationFilter(filter));
        self.fetch(FetchTarget::Track(track), parameters)
    }

    /// Asks how a track stands (TRACK_STATUS).
    ///
    /// # Errors
    /// If the session cannot take requests.
    pub fn track_status(
        &mut self,
        track: FullTrackName,
        parameters: Parameters,
    ) -> Result<RequestId, AskError> {
        self.ask(Kind::TrackStatusSent, |request_id| {
            Message::TrackStatus(TrackStatus { request_id, track, parameters })
        })
    }

    /// Says that tracks under `namespace` are to be had here (PUBLISH_NAMESPACE).
    ///
    /// # Errors
    /// If the session cannot take requests.
    pub fn publish_namespace(
        &mut self,
        namespace: TrackNamespace,
        parameters: Parameters,
    ) -> Result<RequestId, AskError> {
        self.ask(Kind::NamespaceSent, |request_id| {
            Message::PublishNamespace(PublishNamespace { request_id, namespace, parameters })
        })
    }

    /// Asks to be told of namespaces under `prefix` (SUBSCRIBE_NAMESPACE).
    ///
    /// # Errors
    /// If the session cannot take requests.
    pub fn subscribe_namespace(
        &mut self,
        prefix: TrackNamespace,
        parameters: Parameters,
    ) -> Result<RequestId, AskError> {
        self.ask(Kind::NamespaceWatchSent { known: BTreeSet::new() }, |request_id| {
            Message::SubscribeNamespace(SubscribeNamespace { request_id, prefix, parameters })
        })
    }

    /// Asks to be published every track under `prefix` (SUBSCRIBE_TRACKS).
    ///
    /// # Errors
    /// If the session cannot take requests.
    pub fn subscribe_tracks(
        &mut self,
        prefix: TrackNamespace,
        parameters: Parameters,
    ) -> Result<RequestId, AskError> {
        self.ask(Kind::TracksSent, |request_id| {
            Message::SubscribeTracks(SubscribeTracks { request_id, prefix, parameters })
        })
    }

    /// Changes a request of ours, or as its subscriber a PUBLISH of the peer's (REQUEST_UPDATE).
    ///
    /// # Errors
    /// If there is no such request, or too many updates of it are unanswered.
    pub fn update(
        &mut self,
        request: RequestId,
        parameters: Parameters,
    ) -> Result<RequestId, AskError> {
        if self.is_closed() {
            return Err(AskError::Closed);
        }
        let limit = self.control.peer.request_updates_max;
        let entry = self.requests.get(request).ok_or(AskError::UnknownRequest)?;
        let may_update = entry.send_open
            && matches!(
                entry.kind,
                Kind::Subscription(_)
                    | Kind::Publication(Publication { by_publish: true, .. })
                    | Kind::FetchSent(_)
                    | Kind::NamespaceSent
                    | Kind::NamespaceWatchSent { .. }
                    | Kind::TracksSent
            );
        if !may_update {
            return Err(AskError::UnknownRequest);
        }
        if limit != 0 && limit <= entry.updates_sent.len() as u64 {
            return Err(AskError::TooManyUpdates);
        }
        let order = match &entry.kind {
            Kind::Subscription(subscription) => subscription.order,
            _ => GroupOrder::default(),
        };
        let update = self.requests.next_id();
        let fill_order = parameters.fill_parameters().map(|_| fill_order(&parameters, order));
        let Some(entry) = self.requests.get_mut(request) else {
            return Err(AskError::UnknownRequest);
        };
        entry.updates_sent.push_back(update);
        let stream = entry.stream;
        if let Some(order) = fill_order {
            self.fills.insert(update, (request, order));
        }
        let message = Message::RequestUpdate(RequestUpdate { request_id: update, parameters });
        self.queue_message(stream, &message, false);
        Ok(update)
    }

    /// Ends a request of either side at once: resets what we send on it, its data streams too, and
    /// reads no more of it. Nothing more is told of it.
    pub fn cancel(&mut self, request: RequestId, code: ResetCode) {
        if !self.is_closed() {
            self.cancel_streams(request, code);
        }
    }

    pub(super) fn ask(
        &mut self,
        kind: Kind,
        message: impl FnOnce(RequestId) -> Message,
    ) -> Result<RequestId, AskError> {
        if self.is_closed() {
            return Err(AskError::Closed);
        }
        if self.control.goaway_received {
            return Err(AskError::GoingAway);
        }
        let id = self.requests.next_id();
        let stream = self.open_stream(true);
        let precedence = Precedence::request(id);
        self.act(Action::Prioritize { stream, precedence });
        self.queue_message(stream, &message(id), false);
        let is_call = matches!(kind, Kind::CallSent);
        let mut request = Request::new(stream, kind, FrameDecoder::new(self.version), self.clock);
        if is_call {
            request.state = State::Established;
        }
        self.requests.insert(id, request);
        Ok(id)
    }

    /// Forgets a request that is over by what was said; ends our side of its stream.
    pub(super) fn end_request(&mut self, id: RequestId) {
        let Some(request) = self.forget_request(id) else { return };
        if request.send_open {
            self.queue(request.stream, Bytes::new(), true);
        }
        if request.receive_open && request.stream.opener() != self.side {
            self.draining.insert(request.stream, request.began);
        }
    }

    /// Forgets a request that is cancelled, and resets and stops all its streams.
    pub(super) fn cancel_streams(&mut self, id: RequestId, code: ResetCode) {
        let Some(request) = self.forget_request(id) else { return };
        let data = match &request.kind {
            Kind::Publication(publication) => publication.streams.iter().copied().collect(),
            Kind::FetchReceived(fetch) => fetch.data.into_iter().collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        for stream in data {
            self.reset_stream(stream, code);
        }
        if let Kind::FetchSent(fetch) = &request.kind
            && let Some(stream) = fetch.data
            && !fetch.data_ended
        {
            self.stop_incoming(stream, code);
        }
        self.drop_outgoing(request.stream);
        if request.send_open {
            self.act(Action::Reset { stream: request.stream, code: code.0 });
        }
        if request.receive_open {
            self.act(Action::Stop { stream: request.stream, code: code.0 });
        }
    }

    fn forget_request(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(id)?;
        self.partial.forget(request.stream);
        if let Kind::Subscription(subscription) = &request.kind {
            if let Some(alias) = subscription.alias {
                self.aliases.remove(alias, id);
            }
            if let Some(done) = &subscription.done {
                self.done_deadlines.remove(&(done.deadline, id));
            }
            self.fills.retain(|_, (owner, _)| *owner != id);
        }
        Some(request)
    }
}

/// The first location that a FETCH's filter names, if it names one.
fn absolute_start(parameters: &Parameters) -> Option<Location> {
    match parameters.location_filter()? {
        LocationFilter::Start { start }
        | LocationFilter::Groups { start, .. }
        | LocationFilter::Range { start, .. } => Some(start),
        LocationFilter::None | LocationFilter::Relative { .. } | LocationFilter::NextObject => None,
    }
}
