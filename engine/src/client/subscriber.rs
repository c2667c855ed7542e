//! Tracks that we subscribe to: the current version and every later one, each told whole.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use aip_codec::{
    Version,
    moqt::{
        error_code::{PublishDoneCode, ResetCode},
        filter::LocationFilter,
        id::{GroupId, ObjectId, RequestId, TrackAlias},
        location::Location,
        message::{FetchTarget, RequestError, SubscribeOk},
        name::{FullTrackName, TrackNamespace},
        parameter::{Parameter, Parameters},
        property::Properties,
        stream::{fetch::FetchObject, subgroup::SubgroupHeader},
    },
};
use bytes::{Bytes, BytesMut};

use super::{Client, ClientError, Event, Owner, Refusal, SubscriptionId, TrackVersion};
use crate::{
    session::{ReceivedObject, StreamEnd},
    transport::StreamId,
};

/// A track that we subscribe to, once for all who want it here.
#[derive(Debug, Default)]
pub(super) struct Subscribed {
    request: Option<RequestId>,
    alias: Option<TrackAlias>,
    properties: Properties,
    wanted_by: BTreeSet<SubscriptionId>,
    /// Those of `wanted_by` that end with the next version.
    reads: BTreeSet<SubscriptionId>,
    /// The newest version, and when it came.
    version: Option<(TrackVersion, Instant)>,
}

impl Subscribed {
    /// The newest version, if it is known to be current: the subscription brings every later one,
    /// and its time is not over.
    fn current(&self, now: Instant) -> Option<&TrackVersion> {
        let (version, came) = self.version.as_ref()?;
        let lives = version.properties.max_cache_duration().map(Duration::from_millis);
        let fresh = lives.is_none_or(|lives| now < *came + lives);
        (fresh && self.alias.is_some()).then_some(version)
    }
}

/// A prefix whose namespaces are told.
#[derive(Debug, Default)]
pub(super) struct Watch {
    request: Option<RequestId>,
    known: BTreeSet<TrackNamespace>,
}

/// Versions that are arriving.
#[derive(Debug, Default)]
pub(super) struct Assemblies {
    by_stream: HashMap<StreamId, Assembly>,
    by_fill: HashMap<RequestId, Assembly>,
    by_alias: BTreeMap<TrackAlias, FullTrackName>,
}

/// Objects of one group, in order.
#[derive(Debug)]
struct Assembly {
    track: FullTrackName,
    group: Option<GroupId>,
    objects: Vec<Bytes>,
    /// The object that is arriving, if it came in more than one piece.
    arriving: Option<BytesMut>,
    size: usize,
    /// Whether an object was missing, or it grew too large: it will not be told.
    broken: bool,
}

impl Assembly {
    const fn new(track: FullTrackName, group: Option<GroupId>) -> Self {
        Self { track, group, objects: Vec::new(), arriving: None, size: 0, broken: false }
    }

    fn begin_object(&mut self, location: Location, payload: Bytes, last: bool, length_max: usize) {
        if self.group != Some(location.group) {
            // A newer group of a fill: what was before is history.
            self.group = Some(location.group);
            self.objects.clear();
            self.size = 0;
            self.broken = false;
        }
        self.broken |= location.object != ObjectId(self.objects.len() as u64);
        self.size += payload.len();
        self.broken |= length_max < self.size;
        if self.broken {
            self.arriving = None;
        } else if last {
            self.objects.push(payload);
        } else {
            self.arriving = Some(BytesMut::from(&payload[..]));
        }
    }

    fn add(&mut self, bytes: &Bytes, last: bool, length_max: usize) {
        self.size += bytes.len();
        self.broken |= length_max < self.size;
        if self.broken {
            self.arriving = None;
            return;
        }
        if let Some(arriving) = &mut self.arriving {
            arriving.extend_from_slice(bytes);
        }
        if last && let Some(arriving) = self.arriving.take() {
            self.objects.push(arriving.freeze());
        }
    }
}

impl Client {
    /// Tells of every namespace under `prefix` from now on (SUBSCRIBE_NAMESPACE).
    pub fn watch(&mut self, prefix: TrackNamespace) {
        if !self.watched.contains_key(&prefix) {
            self.watched.insert(prefix.clone(), Watch::default());
            self.watch_now(&prefix);
        }
    }

    pub(super) fn watch_now(&mut self, prefix: &TrackNamespace) {
        let Some(session) = self.session() else { return };
        let asked = session.subscribe_namespace(prefix.clone(), Parameters::default());
        if let Ok(request) = asked {
            self.own(request, Owner::Watch(prefix.clone()));
            if let Some(watch) = self.watched.get_mut(prefix) {
                watch.request = Some(request);
            }
        }
    }

    pub(super) fn namespace(
        &mut self,
        request: RequestId,
        suffix: &TrackNamespace,
        appeared: bool,
    ) {
        let Some(Owner::Watch(prefix)) = self.owner(request) else { return };
        let Ok(namespace) = prefix.join(suffix) else { return };
        let limit = self.config.subscriptions_max;
        let Some(watch) = self.watched.get_mut(&prefix) else { return };
        if appeared && watch.known.len() < limit && watch.known.insert(namespace.clone()) {
            self.events.push_back(Event::NamespaceAppeared { namespace });
        } else if !appeared && watch.known.remove(&namespace) {
            self.events.push_back(Event::NamespaceGone { namespace });
        }
    }

    /// What a watch has told is not known any more.
    pub(super) fn watch_ended(&mut self, prefix: &TrackNamespace) {
        let Some(watch) = self.watched.get_mut(prefix) else { return };
        watch.request = None;
        for namespace in std::mem::take(&mut watch.known) {
            self.events.push_back(Event::NamespaceGone { namespace });
        }
    }

    /// Subscribes: the current version and every later one, on this session and later ones. A
    /// version already told is not told again after a reconnect.
    ///
    /// # Errors
    /// If there are too many.
    pub fn subscribe(
        &mut self,
        track: FullTrackName,
        now: Instant,
    ) -> Result<SubscriptionId, ClientError> {
        self.want(track, false, now)
    }

    /// Reads the current version once.
    ///
    /// # Errors
    /// If there are too many.
    pub fn read(
        &mut self,
        track: FullTrackName,
        now: Instant,
    ) -> Result<SubscriptionId, ClientError> {
        self.want(track, true, now)
    }

    fn want(
        &mut self,
        track: FullTrackName,
        once: bool,
        now: Instant,
    ) -> Result<SubscriptionId, ClientError> {
        if self.config.subscriptions_max <= self.subscriptions.len() {
            return Err(ClientError::LimitReached("subscriptions"));
        }
        let id = SubscriptionId(self.next_subscription);
        self.next_subscription += 1;
        self.subscriptions.insert(id, track.clone());
        let subscribed = self.subscribed.entry(track.clone()).or_default();
        subscribed.wanted_by.insert(id);
        if once {
            subscribed.reads.insert(id);
        }
        if let Some(version) = subscribed.current(now).cloned() {
            self.events.push_back(Event::Version { subscription: id, version });
            if once {
                self.unsubscribe(id);
            }
        } else if subscribed.request.is_none() {
            self.subscribe_now(&track, now);
        } else if subscribed.version.is_some() && subscribed.alias.is_some() {
            // Its time is over: asked for anew.
            self.renew(&track, now);
        }
        Ok(id)
    }

    fn renew(&mut self, track: &FullTrackName, now: Instant) {
        self.leave(track);
        self.subscribe_now(track, now);
    }

    /// Ends a subscription or read; nothing more is told of it.
    pub fn unsubscribe(&mut self, subscription: SubscriptionId) {
        let Some(track) = self.subscriptions.remove(&subscription) else { return };
        let Some(subscribed) = self.subscribed.get_mut(&track) else { return };
        subscribed.wanted_by.remove(&subscription);
        subscribed.reads.remove(&subscription);
        if subscribed.wanted_by.is_empty() {
            self.leave(&track);
            self.subscribed.remove(&track);
        }
    }

    /// Ends our SUBSCRIBE of a track.
    fn leave(&mut self, track: &FullTrackName) {
        let Some(subscribed) = self.subscribed.get_mut(track) else { return };
        let alias = subscribed.alias.take();
        let Some(request) = subscribed.request.take() else { return };
        let Some(current) = &mut self.current else { return };
        current.owners.remove(&request);
        if let Some(alias) = alias {
            current.streams.by_alias.remove(&alias);
        }
        current.streams.by_fill.retain(|_, assembly| assembly.track != *track);
        current.session.cancel(request, ResetCode::CANCELLED);
    }

    pub(super) fn subscribe_now(&mut self, track: &FullTrackName, _now: Instant) {
        let patience = self.config.rendezvous_timeout.as_millis();
        let patience = u64::try_from(patience).unwrap_or(u64::MAX);
        let Some(session) = self.session() else { return };
        let fills = Version::Draft20 <= session.version();
        let mut parameters = Parameters::default();
        if 0 < patience {
            parameters.push(Parameter::RendezvousTimeout(patience));
        }
        if fills {
            let current_group = LocationFilter::Relative { groups_back: 1 };
            parameters.push(Parameter::FillParameters(
                Parameters::default().with(Parameter::LocationFilter(current_group)),
            ));
        }
        let Ok(request) = session.subscribe(track.clone(), parameters) else { return };
        self.own(request, Owner::Subscription(track.clone()));
        if let Some(subscribed) = self.subscribed.get_mut(track) {
            subscribed.request = Some(request);
        }
    }

    pub(super) fn subscription_accepted(
        &mut self,
        request: RequestId,
        track: &FullTrackName,
        ok: SubscribeOk,
    ) {
        let has_objects = ok.parameters.largest_object().is_some();
        let Some(subscribed) = self.subscribed.get_mut(track) else { return };
        subscribed.alias = Some(ok.track_alias);
        subscribed.properties = ok.properties;
        if let Some(current) = &mut self.current {
            current.streams.by_alias.insert(ok.track_alias, track.clone());
        }
        if has_objects {
            self.join(request, track);
        }
    }

    /// Drafts without fills join a subscription by a FETCH; only once it is accepted, since a FETCH
    /// that overtakes its SUBSCRIBE joins nothing.
    fn join(&mut self, request_id: RequestId, track: &FullTrackName) {
        let Some(session) = self.session().filter(|session| session.version() < Version::Draft20)
        else {
            return;
        };
        let target = FetchTarget::Joining { relative: true, request_id, start: 0 };
        if let Ok(fetch) = session.fetch(target, Parameters::default()) {
            self.own(fetch, Owner::JoiningFetch(track.clone()));
        }
    }

    pub(super) fn subscription_refused(
        &mut self,
        request: RequestId,
        track: &FullTrackName,
        error: &RequestError,
    ) {
        self.forget(request);
        let refusal = Refusal::of(error);
        let Some(subscribed) = self.subscribed.remove(track) else { return };
        for subscription in subscribed.wanted_by {
            self.subscriptions.remove(&subscription);
            let refusal = refusal.clone();
            self.events.push_back(Event::SubscriptionRefused { subscription, refusal });
        }
    }

    pub(super) fn subscription_ended(&mut self, request: RequestId, code: PublishDoneCode) {
        let Some(Owner::Subscription(track)) = self.owner(request) else { return };
        self.forget(request);
        let Some(subscribed) = self.subscribed.remove(&track) else { return };
        if let (Some(alias), Some(current)) = (subscribed.alias, &mut self.current) {
            current.streams.by_alias.remove(&alias);
        }
        for subscription in subscribed.wanted_by {
            self.subscriptions.remove(&subscription);
            self.events.push_back(Event::SubscriptionEnded { subscription, code });
        }
    }

    pub(super) fn session_lost_for_subscriptions(&mut self) {
        for subscribed in self.subscribed.values_mut() {
            subscribed.request = None;
            subscribed.alias = None;
        }
        let watched: Vec<_> = self.watched.keys().cloned().collect();
        for prefix in watched {
            self.watch_ended(&prefix);
        }
    }

    pub(super) fn subgroup_opened(&mut self, stream: StreamId, header: &SubgroupHeader) {
        let Some(current) = &mut self.current else { return };
        let Some(track) = current.streams.by_alias.get(&header.track_alias).cloned() else {
            current.session.stop_incoming(stream, ResetCode::CANCELLED);
            return;
        };
        let assembly = Assembly::new(track, Some(header.group));
        current.streams.by_stream.insert(stream, assembly);
    }

    pub(super) fn object(&mut self, stream: StreamId, object: ReceivedObject) {
        let limit = self.config.version_length_max;
        let Some(current) = &mut self.current else { return };
        let Some(assembly) = current.streams.by_stream.get_mut(&stream) else { return };
        let Some(group) = assembly.group else { return };
        let location = Location { group, object: object.header.object };
        if object.header.status == aip_codec::moqt::stream::subgroup::ObjectStatus::Normal {
            assembly.begin_object(location, object.payload, object.last, limit);
        }
    }

    pub(super) fn payload(&mut self, stream: StreamId, bytes: Bytes, last: bool) {
        let limit = self.config.version_length_max;
        let Some(current) = &mut self.current else { return };
        if let Some(assembly) = current.streams.by_stream.get_mut(&stream) {
            assembly.add(&bytes, last, limit);
        }
    }

    pub(super) fn subgroup_ended(&mut self, stream: StreamId, end: StreamEnd, now: Instant) {
        let Some(current) = &mut self.current else { return };
        let Some(assembly) = current.streams.by_stream.remove(&stream) else { return };
        if end == StreamEnd::Fin {
            self.assembled(assembly, now);
        }
    }

    fn fill_of(&self, request: RequestId) -> Option<FullTrackName> {
        match self.owner(request)? {
            Owner::Subscription(track) | Owner::JoiningFetch(track) => Some(track),
            _ => None,
        }
    }

    pub(super) fn fetched_object(
        &mut self,
        request: RequestId,
        object: &FetchObject,
        payload: Bytes,
        last: bool,
    ) {
        let Some(track) = self.fill_of(request) else { return };
        let limit = self.config.version_length_max;
        let Some(current) = &mut self.current else { return };
        current
            .streams
            .by_fill
            .entry(request)
            .or_insert_with(|| Assembly::new(track, None))
            .begin_object(object.location, payload, last, limit);
    }

    pub(super) fn fetched_payload(&mut self, request: RequestId, bytes: Bytes, last: bool) {
        let limit = self.config.version_length_max;
        let Some(current) = &mut self.current else { return };
        if let Some(assembly) = current.streams.by_fill.get_mut(&request) {
            assembly.add(&bytes, last, limit);
        }
    }

    pub(super) fn fetch_ended(&mut self, request: RequestId, end: StreamEnd, now: Instant) {
        let is_fetch = matches!(self.owner(request), Some(Owner::JoiningFetch(_)));
        if is_fetch {
            self.forget(request);
        }
        let Some(current) = &mut self.current else { return };
        let Some(assembly) = current.streams.by_fill.remove(&request) else { return };
        if end == StreamEnd::Fin {
            self.assembled(assembly, now);
        }
    }

    /// A group is here whole: told to who wants it, if it is newer than what they know.
    fn assembled(&mut self, assembly: Assembly, now: Instant) {
        let Assembly { track, group: Some(group), objects, arriving: None, broken: false, .. } =
            assembly
        else {
            return;
        };
        let Some(subscribed) = self.subscribed.get_mut(&track) else { return };
        let properties = subscribed.properties.clone();
        let version = TrackVersion { group, objects, properties };
        let known = subscribed.version.as_ref().map(|(known, _)| known.group);
        if version.objects.is_empty() || known.is_some_and(|known| group < known) {
            return;
        }
        let told_before = known == Some(group);
        subscribed.version = Some((version.clone(), now));
        let reads = std::mem::take(&mut subscribed.reads);
        for &subscription in &subscribed.wanted_by {
            if !told_before || reads.contains(&subscription) {
                let version = version.clone();
                self.events.push_back(Event::Version { subscription, version });
            }
        }
        for read in reads {
            self.unsubscribe(read);
        }
    }
}
