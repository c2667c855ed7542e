//! The sessions of an agent, and what it says on them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::mpsc,
    time::Instant,
};

use aip_codec::moqt::{
    error_code::{PublishDoneCode, RequestCode},
    id::{RequestId, TrackAlias},
    parameter::{Parameter, Parameters},
    property::Properties,
};
use aip_engine::{
    session::{self, Event, Request, Response, Session},
    transport::{Action, Closed, Driver, Peer, SessionId, StreamId},
};
use bytes::{Bytes, BytesMut};

use super::{
    agent::{Command, Group, Object, Role, Told, name, namespace, number, payload},
    published::{Published, Writer, send_group},
    words::HOSTILE,
};

/// An object that is arriving.
struct Arriving {
    object: u64,
    bytes: BytesMut,
}

struct Link {
    session: Session,
    /// Our subscriptions, by request.
    subscriptions: HashMap<RequestId, u64>,
    /// Tracks by the relay's alias.
    aliases: HashMap<TrackAlias, u64>,
    /// Where each stream is: track, group, and the object that is arriving.
    streams: HashMap<StreamId, (u64, u64, Option<Arriving>)>,
    /// The relay's subscriptions to our tracks.
    publications: Vec<(RequestId, u64)>,
    /// Streams of groups that go on.
    writers: HashMap<RequestId, Writer>,
}

pub(super) struct Sessions {
    role: Role,
    tell: mpsc::Sender<Told>,
    links: BTreeMap<SessionId, Link>,
    wanted: Vec<u64>,
    announcements: HashMap<(SessionId, RequestId), ()>,
    published: Published,
    draining: bool,
}

impl Sessions {
    pub(super) fn new(role: Role, tell: mpsc::Sender<Told>) -> Self {
        Self {
            role,
            tell,
            links: BTreeMap::new(),
            wanted: Vec::new(),
            announcements: HashMap::new(),
            published: Published::default(),
            draining: false,
        }
    }

    fn tell(&self, told: Told) {
        // The test may be over.
        drop(self.tell.send(told));
    }

    fn with(&mut self, id: SessionId, tell: impl FnOnce(&mut Session)) {
        let Some(link) = self.links.get_mut(&id) else { return };
        tell(&mut link.session);
        while let Some(event) = self.links.get_mut(&id).and_then(|it| it.session.poll_event()) {
            self.handle_event(id, event);
        }
    }

    fn handle_event(&mut self, id: SessionId, event: Event) {
        match event {
            Event::Established { .. } => self.established(id),
            Event::Request { request, body, .. } => self.request(id, request, body),
            Event::Response { request, body } => self.response(id, request, body),
            Event::PublishDone { request, body } => {
                self.subscription_over(id, request, Some(body.code));
            }
            Event::Ended { request } => self.request_over(id, request),
            Event::SubgroupOpened { stream, header } => {
                let Some(link) = self.links.get_mut(&id) else { return };
                if let Some(&track) = link.aliases.get(&header.track_alias) {
                    link.streams.insert(stream, (track, header.group.0, None));
                }
            }
            Event::Object { stream, object } => {
                let (number, bytes) = (object.header.object.0, BytesMut::from(&object.payload[..]));
                let Some(link) = self.links.get_mut(&id) else { return };
                let Some(place) = link.streams.get_mut(&stream) else { return };
                place.2 = Some(Arriving { object: number, bytes });
                if object.last {
                    self.object_whole(id, stream);
                }
            }
            Event::Payload { stream, bytes, last } => {
                let Some(link) = self.links.get_mut(&id) else { return };
                if let Some((.., Some(arriving))) = link.streams.get_mut(&stream) {
                    arriving.bytes.extend_from_slice(&bytes);
                }
                if last {
                    self.object_whole(id, stream);
                }
            }
            Event::SubgroupEnded { stream, .. } => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.streams.remove(&stream);
                }
            }
            _ => {}
        }
    }

    fn established(&mut self, id: SessionId) {
        self.tell(Told::Established(id));
        if self.role == Role::Publisher {
            let mut asked = None;
            self.with(id, |session| {
                asked = session.publish_namespace(namespace(), Parameters::default()).ok();
            });
            self.announcements.extend(asked.map(|request| ((id, request), ())));
        }
        for track in self.wanted.clone() {
            self.subscribe(id, track);
        }
    }

    fn subscribe(&mut self, id: SessionId, track: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.session.is_established()
            && let Ok(request) = link.session.subscribe(name(track), Parameters::default())
        {
            link.subscriptions.insert(request, track);
        }
    }

    fn request(&mut self, id: SessionId, request: RequestId, body: Request) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let subscribe = match body {
            Request::Subscribe(subscribe) => subscribe,
            Request::Fetch(fetch) => {
                self.published.answer_fetch(&mut link.session, request, &fetch);
                return;
            }
            _ => return,
        };
        let Some(track) = number(&subscribe.track) else {
            link.session.reject_with(request, RequestCode::INTERNAL_ERROR, HOSTILE);
            return;
        };
        let parameters = match self.published.largest(track) {
            Some(largest) => Parameters::default().with(Parameter::LargestObject(largest)),
            None => Parameters::default(),
        };
        let properties = Properties::default();
        link.session.accept_subscribe(request, TrackAlias(track), parameters, properties);
        link.publications.push((request, track));
        self.tell(Told::Subscriber(track));
    }

    fn response(&mut self, id: SessionId, request: RequestId, body: Response) {
        match body {
            Response::SubscribeOk(ok) => {
                let Some(link) = self.links.get_mut(&id) else { return };
                if let Some(&track) = link.subscriptions.get(&request) {
                    link.aliases.insert(ok.track_alias, track);
                    self.tell(Told::Accepted(id, track));
                }
            }
            Response::Ok(_) if self.announcements.contains_key(&(id, request)) => {
                self.tell(Told::Announced(id));
            }
            Response::Error(_) => self.subscription_over(id, request, None),
            _ => {}
        }
    }

    fn subscription_over(
        &mut self,
        id: SessionId,
        request: RequestId,
        code: Option<PublishDoneCode>,
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.subscriptions.remove(&request).is_some() {
            self.tell(Told::Ended(id, code));
        }
    }

    fn request_over(&mut self, id: SessionId, request: RequestId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.publications.retain(|(other, _)| *other != request);
            link.writers.remove(&request);
        }
        self.subscription_over(id, request, None);
    }

    fn object_whole(&mut self, session: SessionId, stream: StreamId) {
        let Some(link) = self.links.get_mut(&session) else { return };
        let Some((track, group, arriving)) = link.streams.get_mut(&stream) else { return };
        let Some(Arriving { object, bytes }) = arriving.take() else { return };
        let (track, group) = (*track, *group);
        let intact = bytes == payload(track, group, object, bytes.len());
        self.tell(Told::Object { session, track, group, object, intact });
    }

    fn publish(&mut self, track: u64, groups: &[Group]) {
        for group in groups {
            self.published.note(track, group.id, group.objects, group.length);
            for Link { session, publications, .. } in self.links.values_mut() {
                for (request, _) in publications.iter().filter(|(_, of)| *of == track) {
                    send_group(session, *request, track, *group);
                }
            }
        }
    }
}

impl Sessions {
    /// Sends one object more of a group.
    fn publish_object(&mut self, track: u64, object: Object) {
        self.published.note(track, object.group, object.number + 1, object.length);
        for Link { session, publications, writers, .. } in self.links.values_mut() {
            for (request, _) in publications.iter().filter(|(_, of)| *of == track) {
                if !writers.contains_key(request) {
                    let Some(writer) = Writer::new(session, *request, track, object) else {
                        continue;
                    };
                    writers.insert(*request, writer);
                }
                let Some(writer) = writers.get_mut(request) else { continue };
                writer.object(session, track, object);
                if object.last {
                    writers.remove(request);
                }
            }
        }
    }
}

impl Driver for Sessions {
    type Command = Command;

    fn handle_connected(&mut self, id: SessionId, peer: Peer, now: Instant) {
        let mut config = session::Config::default();
        config.authority.clone_from(&peer.authority);
        let session = Session::new(config, peer.side, peer.version, now);
        let link = Link {
            session,
            subscriptions: HashMap::new(),
            aliases: HashMap::new(),
            streams: HashMap::new(),
            publications: Vec::new(),
            writers: HashMap::new(),
        };
        self.links.insert(id, link);
    }

    fn handle_stream(
        &mut self,
        id: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.with(id, |session| session.handle_stream(stream, bytes, fin, now));
    }

    fn handle_reset(&mut self, id: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with(id, |session| session.handle_reset(stream, code, now));
    }

    fn handle_stop(&mut self, id: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with(id, |session| session.handle_stop(stream, code, now));
    }

    fn handle_datagram(&mut self, id: SessionId, bytes: Bytes, now: Instant) {
        self.with(id, |session| session.handle_datagram(bytes, now));
    }

    fn handle_sent(&mut self, id: SessionId, stream: StreamId, length: usize, now: Instant) {
        self.with(id, |session| {
            session.handle_sent(stream, length, now);
        });
    }

    fn handle_closed(&mut self, id: SessionId, closed: Closed, _: Instant) {
        self.links.remove(&id);
        self.tell(Told::Closed(id, closed));
    }

    fn handle_unreachable(&mut self, _: usize, _: &str, _: Instant) {}

    fn handle_command(&mut self, command: Command, _: Instant) {
        match command {
            Command::Subscribe(track) => {
                self.wanted.push(track);
                for id in self.links.keys().copied().collect::<Vec<_>>() {
                    self.subscribe(id, track);
                }
            }
            Command::Publish(track, groups) => self.publish(track, &groups),
            Command::Object(track, object) => self.publish_object(track, object),
            Command::Say(say) => {
                for id in self.links.keys().copied().collect::<Vec<_>>() {
                    self.with(id, say);
                }
            }
        }
    }

    fn handle_drain(&mut self, _: Instant) {
        self.draining = true;
    }

    fn is_drained(&self) -> bool {
        self.draining
    }

    fn handle_timeout(&mut self, now: Instant) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.with(id, |session| session.handle_timeout(now));
        }
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        self.links
            .iter_mut()
            .find_map(|(id, link)| link.session.poll_action().map(|action| (*id, action)))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().filter_map(|link| link.session.poll_timeout()).min()
    }
}
