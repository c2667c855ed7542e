//! A publisher, subscriber and caller over one session that comes back when it is lost.
//!
//! A [`Client`] holds what is *wanted* — namespaces announced, tracks served, subscriptions — and
//! keeps it so on whatever session there is. Calls belong to one session and end with it. Like all
//! state machines here it is told by `handle_*`, asked by `poll_*`, and knows no socket.

mod assembly;
mod caller;
mod event;
mod publisher;
mod subscriber;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::{
    aip::setup_option::AipOption,
    moqt::{
        error_code::SessionCode,
        id::RequestId,
        message::RequestError,
        name::{FullTrackName, TrackNamespace},
    },
};
use bytes::Bytes;

pub use self::assembly::OBJECT_COUNT;
pub use self::event::{
    CallEnd, CallId, ClientError, Config, Event, Refusal, SubscriptionId, TrackVersion,
};
use self::{
    caller::Calls,
    publisher::Served,
    subscriber::{Subscribed, Watch},
};
use crate::{
    session::{self, Event as SessionEvent, Request, Response, Session},
    stream_map::NumberMap,
    transport::{Action, Closed, Peer, SessionId, StreamId},
};

/// See the module.
#[derive(Debug)]
pub struct Client {
    config: Config,
    current: Option<Current>,
    /// Namespaces we publish, and by which request on this session.
    announced: BTreeMap<TrackNamespace, Option<RequestId>>,
    /// Prefixes whose namespaces we are told of.
    watched: BTreeMap<TrackNamespace, Watch>,
    /// Tracks that somebody asked us for.
    served: BTreeMap<FullTrackName, Served>,
    /// Tracks that we subscribe to.
    subscribed: BTreeMap<FullTrackName, Subscribed>,
    /// Which track each subscription or read is of.
    subscriptions: BTreeMap<SubscriptionId, FullTrackName>,
    calls: Calls,
    next_subscription: u64,
    next_alias: u64,
    draining: bool,
    actions: VecDeque<(SessionId, Action)>,
    events: VecDeque<Event>,
}

/// The session that there is now.
#[derive(Debug)]
struct Current {
    id: SessionId,
    session: Session,
    owners: NumberMap<RequestId, Owner>,
    streams: assembly::Readings,
    going_away: bool,
}

/// What a request on the session is to the client.
#[derive(Clone, Debug)]
enum Owner {
    /// Our PUBLISH_NAMESPACE.
    Announcement(TrackNamespace),
    /// Our SUBSCRIBE_NAMESPACE.
    Watch(TrackNamespace),
    /// Our SUBSCRIBE.
    Subscription(FullTrackName),
    /// Our joining FETCH (drafts 18 and 19), which fills a subscription.
    JoiningFetch(FullTrackName),
    /// The peer's SUBSCRIBE.
    Subscriber(FullTrackName),
    /// The peer's request that waits for a version.
    Waiting(FullTrackName),
    /// A call, of either side.
    Call(CallId),
}

impl Client {
    /// A client that wants nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            current: None,
            announced: BTreeMap::new(),
            watched: BTreeMap::new(),
            served: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            calls: Calls::default(),
            next_subscription: 0,
            next_alias: 0,
            draining: false,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether a session is established.
    pub fn is_connected(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.session.is_established())
    }

    /// A connection is up. One at a time: a further one is closed.
    pub fn handle_connected(&mut self, id: SessionId, peer: Peer, now: Instant) {
        let config = session::Config {
            implementation: self.config.implementation.clone(),
            authority: peer.authority.clone(),
            path: peer.path.clone(),
            webtransport: peer.webtransport,
            aip: Some(AipOption {
                profile_version: 1,
                content_types: self.config.content_types.clone(),
            }),
            ..session::Config::default()
        };
        let mut session = Session::new(config, peer.side, peer.version, now);
        if self.current.is_some() {
            session.close(SessionCode::NO_ERROR, "one session is enough");
            while let Some(action) = session.poll_action() {
                self.actions.push_back((id, action));
            }
            return;
        }
        self.current = Some(Current {
            id,
            session,
            owners: NumberMap::default(),
            streams: assembly::Readings::default(),
            going_away: false,
        });
    }

    /// Bytes of a stream.
    pub fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.with_session(session, now, |session| session.handle_stream(stream, bytes, fin, now));
    }

    /// The peer reset its sending side.
    pub fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with_session(session, now, |session| session.handle_reset(stream, code, now));
    }

    /// The peer asks to send no more.
    pub fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with_session(session, now, |session| session.handle_stop(stream, code, now));
    }

    /// A datagram.
    pub fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant) {
        self.with_session(session, now, |session| session.handle_datagram(bytes, now));
    }

    /// Bytes have left a queue.
    pub fn handle_sent(
        &mut self,
        session: SessionId,
        stream: StreamId,
        length: usize,
        now: Instant,
    ) {
        self.with_session(session, now, |session| {
            session.handle_sent(stream, length, now);
        });
    }

    /// The connection is no more.
    pub fn handle_closed(&mut self, session: SessionId, closed: Closed, _now: Instant) {
        if self.current.as_ref().is_none_or(|current| current.id != session) {
            return;
        }
        self.current = None;
        self.actions.retain(|(other, _)| *other != session);
        for request in self.announced.values_mut() {
            *request = None;
        }
        self.session_lost_for_subscriptions();
        self.session_lost_for_served();
        self.session_lost_for_calls();
        self.events.push_back(Event::Disconnected { reason: describe(&closed) });
    }

    /// No connection could be had this time.
    pub fn handle_unreachable(&mut self, _target: usize, reason: &str, _now: Instant) {
        self.events.push_back(Event::Unreachable { reason: reason.to_owned() });
    }

    /// Begins to end: withdraws what is announced, takes no new calls.
    pub fn handle_drain(&mut self, _now: Instant) {
        self.draining = true;
        let announced: Vec<_> = self.announced.keys().cloned().collect();
        for namespace in announced {
            self.withdraw(&namespace);
        }
    }

    /// Whether a drain is over: no call is left.
    pub fn is_drained(&self) -> bool {
        self.draining && self.calls.is_empty()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(id) = self.current.as_ref().map(|current| current.id) {
            self.with_session(id, now, |session| session.handle_timeout(now));
        }
        self.served_timed_out(now);
    }

    /// What the transport must do next.
    pub fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let current = self.current.as_mut()?;
        current.session.poll_action().map(|action| (current.id, action))
    }

    /// What the layer above learns next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is wanted at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let session = self.current.as_ref().and_then(|current| current.session.poll_timeout());
        [session, self.served_deadline()].into_iter().flatten().min()
    }

    fn with_session(&mut self, id: SessionId, now: Instant, tell: impl FnOnce(&mut Session)) {
        let Some(current) = self.current.as_mut().filter(|current| current.id == id) else {
            return;
        };
        tell(&mut current.session);
        self.drain_session_events(now);
        self.close_if_moved();
    }

    /// Acts on what the session has to tell; also after answers, which let updates come that have
    /// waited for them.
    fn drain_session_events(&mut self, now: Instant) {
        while let Some(event) =
            self.current.as_mut().and_then(|current| current.session.poll_event())
        {
            self.handle_session_event(event, now);
        }
    }

    /// The peer is going away: once no call is left, so do we, and the transport finds another way.
    fn close_if_moved(&mut self) {
        if !self.calls.is_empty() {
            return;
        }
        if let Some(current) = self.current.as_mut().filter(|current| current.going_away) {
            current.session.close(SessionCode::NO_ERROR, "moved on");
        }
    }

    fn handle_session_event(&mut self, event: SessionEvent, now: Instant) {
        match event {
            SessionEvent::Established { aip, .. } => self.established(aip, now),
            SessionEvent::Request { request, body, .. } => self.request(request, body, now),
            SessionEvent::Response { request, body } => self.response(request, body, now),
            SessionEvent::Update { request, update, parameters } => {
                self.update_received(request, update, &parameters);
            }
            SessionEvent::PublishDone { request, body } => {
                self.subscription_ended(request, body.code);
            }
            SessionEvent::Namespace { request, suffix, .. } => {
                self.namespace(request, &suffix, true);
            }
            SessionEvent::NamespaceDone { request, suffix } => {
                self.namespace(request, &suffix, false);
            }
            SessionEvent::Ended { request } => self.request_ended(request),
            SessionEvent::SubgroupOpened { stream, header } => {
                self.subgroup_opened(stream, &header);
            }
            SessionEvent::Object { stream, object } => self.object(stream, object, now),
            SessionEvent::Payload { stream, bytes, last } => {
                self.payload(stream, &bytes, last, now)
            }
            SessionEvent::SubgroupEnded { stream, end } => self.subgroup_ended(stream, end, now),
            SessionEvent::FetchObject { request, object, payload, last } => {
                self.fetched_object(request, &object, payload, last, now);
            }
            SessionEvent::FetchPayload { request, bytes, last } => {
                self.fetched_payload(request, &bytes, last, now);
            }
            SessionEvent::FetchEnded { request, end } => self.fetch_ended(request, end, now),
            SessionEvent::CallBytes { request, bytes, fin } => {
                self.call_bytes(request, bytes, fin);
            }
            SessionEvent::CallReset { request, code } => self.call_reset(request, code),
            SessionEvent::CallStopped { request, code } => self.call_stopped(request, code),
            SessionEvent::TooFarBehind { request } => {
                if let Some(current) = &mut self.current {
                    current.session.end_behind(request);
                }
                self.request_ended(request);
            }
            SessionEvent::Goaway { request: None, .. } => {
                if let Some(current) = &mut self.current {
                    current.going_away = true;
                }
            }
            SessionEvent::Goaway { .. }
            | SessionEvent::UpdateResponse { .. }
            | SessionEvent::StateNotify { .. }
            | SessionEvent::PublishSkipped { .. }
            | SessionEvent::FetchRange { .. }
            | SessionEvent::Hops { .. }
            | SessionEvent::Datagram { .. } => {}
        }
    }

    fn established(&mut self, aip: Option<AipOption>, now: Instant) {
        let Some(current) = &self.current else { return };
        self.events.push_back(Event::Connected {
            version: current.session.version(),
            content_types: aip.map(|aip| aip.content_types),
        });
        let announced: Vec<_> = self.announced.keys().cloned().collect();
        for namespace in announced {
            self.announce_now(&namespace);
        }
        let watched: Vec<_> = self.watched.keys().cloned().collect();
        for prefix in watched {
            self.watch_now(&prefix);
        }
        let subscribed: Vec<_> = self.subscribed.keys().cloned().collect();
        for track in subscribed {
            self.subscribe_now(&track, now);
        }
    }

    fn request(&mut self, request: RequestId, body: Request, now: Instant) {
        match body {
            Request::Subscribe(body) => self.subscribe_received(request, body, now),
            Request::Fetch(body) => self.fetch_received(request, body, now),
            Request::TrackStatus(body) => self.track_status_received(request, body, now),
            Request::Call(body) => self.call_received(request, body),
            Request::Publish(_)
            | Request::PublishNamespace(_)
            | Request::SubscribeNamespace(_)
            | Request::SubscribeTracks(_) => self.refuse_request(request),
        }
    }

    fn response(&mut self, request: RequestId, body: Response, now: Instant) {
        let Some(owner) = self.owner(request) else { return };
        match (owner, body) {
            (Owner::Announcement(namespace), Response::Error(error)) => {
                self.announcement_refused(request, namespace, &error);
            }
            (Owner::Watch(prefix), Response::Error(error)) => {
                tracing::warn!(%prefix, code = %error.code, "watching namespaces was refused");
                self.forget(request);
            }
            (Owner::Subscription(track), Response::SubscribeOk(ok)) => {
                self.subscription_accepted(request, &track, ok, now);
            }
            (Owner::Subscription(track), Response::Error(error)) => {
                self.subscription_refused(request, &track, &error);
            }
            (Owner::JoiningFetch(_), Response::Error(_)) => self.forget(request),
            _ => {}
        }
    }

    /// A request of either side is over without a word on what it means.
    fn request_ended(&mut self, request: RequestId) {
        match self.owner(request) {
            Some(Owner::Announcement(namespace)) => {
                self.forget(request);
                // Whoever ends it wants it no more on this session; the next one is asked again.
                if let Some(request) = self.announced.get_mut(&namespace) {
                    *request = None;
                }
            }
            Some(Owner::Watch(prefix)) => {
                self.forget(request);
                self.watch_ended(&prefix);
            }
            Some(Owner::Subscription(_)) => {
                let code = aip_codec::moqt::error_code::PublishDoneCode::INTERNAL_ERROR;
                self.subscription_ended(request, code);
            }
            Some(Owner::Subscriber(track)) => {
                self.forget(request);
                self.subscriber_left(&track, request);
            }
            Some(Owner::Waiting(track)) => {
                self.forget(request);
                self.waiting_left(&track, request);
            }
            Some(Owner::JoiningFetch(_)) => self.forget(request),
            Some(Owner::Call(_)) | None => {}
        }
    }

    fn owner(&self, request: RequestId) -> Option<Owner> {
        self.current.as_ref()?.owners.get(&request).cloned()
    }

    fn own(&mut self, request: RequestId, owner: Owner) {
        if let Some(current) = &mut self.current {
            current.owners.insert(request, owner);
        }
    }

    fn forget(&mut self, request: RequestId) {
        if let Some(current) = &mut self.current {
            current.owners.remove(&request);
        }
    }

    /// The session, once it is established.
    fn session(&mut self) -> Option<&mut Session> {
        self.current
            .as_mut()
            .map(|current| &mut current.session)
            .filter(|session| session.is_established())
    }
}

impl Refusal {
    fn of(error: &RequestError) -> Self {
        Self {
            code: error.code,
            retry_after: error.retry_interval.checked_sub(1).map(Duration::from_millis),
            reason: error.reason.as_str().to_owned(),
        }
    }

    fn to_error(&self) -> RequestError {
        let retry_interval = self
            .retry_after
            .map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX - 1) + 1);
        RequestError {
            code: self.code,
            retry_interval,
            reason: aip_codec::moqt::message::Reason::new(&self.reason),
            redirect: None,
        }
    }
}

/// Why a connection ended, for people.
fn describe(closed: &Closed) -> String {
    match closed {
        Closed::ByPeer { code, reason } => {
            let reason = String::from_utf8_lossy(reason);
            let reason: String = reason.chars().take(200).flat_map(char::escape_default).collect();
            format!("closed by the peer: {} {reason}", SessionCode(*code))
        }
        Closed::Transport { code } => format!("QUIC error 0x{code:x}"),
        Closed::Locally => "closed by us".to_owned(),
        Closed::TimedOut => "nothing heard from the peer".to_owned(),
    }
}
