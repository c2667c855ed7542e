//! One QUIC connection: quiche, its streams' queues, and when it wants attention.

mod datagrams;
mod path;
mod silence;
mod web;
mod width;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use aip_codec::{Version, moqt::error_code::SessionCode};
use bytes::Bytes;

use self::{datagrams::Datagrams, silence::Silence, width::Width};
use super::{
    chunk_pool::ChunkPool,
    cid::Cid,
    config,
    connection_table::InitialKey,
    http3,
    incoming::Incoming,
    outgoing::{Outgoing, Output},
    packet,
    quic::{self, Quic},
    record::Link,
    target::Trust,
    timer_wheel::Tick,
    tls,
    webtransport::{Numbered, WebTransport},
};
use crate::{
    metrics::Counters,
    transport::{Action, Closed, SessionId, Side, StreamId},
};

/// How long a closing connection may take to hand over what is queued.
const LINGER: Duration = Duration::from_millis(500);
/// How long a client has to close the connection itself once it has heard that its WebTransport session
/// is closed. One that hears both ends at once may tell only the connection's: Chromium forgets the
/// session's code and reason.
const PARTING: Duration = Duration::from_millis(100);
/// All bytes handed over are on their way if there is still room for this share of them: packets
/// are larger than the bytes in them.
const ROOM_SHARE: usize = 8;
/// Streams that were stopped while nothing was queued for them, or reset while they were not read,
/// are looked for whenever packets came that say so. If there are more streams than this, less often:
const SCAN_ALWAYS: usize = 64;
/// so often per stream,
const SCAN_PER_STREAM: Duration = Duration::from_micros(20);
/// but at least so often.
const SCAN_MAX: Duration = Duration::from_millis(50);
/// How much sooner a keep-alive follows one that was not answered.
const KEEP_ALIVE_URGENCY: u32 = 3;
/// How long a peer has to answer once this process goes on that was stopped.
const FORGIVENESS: Duration = Duration::from_secs(1);
/// Bytes of a closing reason that are sent.
const REASON_MAX: usize = 1_024;
/// Bytes of a packet that are not a datagram's: header with our peer's id, number, tag, frame.
const DATAGRAM_OVERHEAD: usize = 1 + 20 + 4 + 16 + 9;
/// About so many bytes of a packet are no stream's.
const OVERHEAD: usize = 48;
/// A packet that is so much shorter than it may be holds all that there was of a stream.
const ROOM_CERTAIN: usize = 64;
/// The least that every path carries (RFC 9000 section 14).
const PATH_MIN: usize = 1_200;

/// What a connection has to say.
#[derive(Debug)]
pub(super) enum Event {
    /// It is up.
    Connected { version: Version },
    /// Bytes of a stream.
    Stream { stream: StreamId, bytes: Bytes, fin: bool },
    /// The peer reset its side of a stream.
    Reset { stream: StreamId, code: u64 },
    /// The peer wants no more of a stream.
    Stop { stream: StreamId, code: u64 },
    /// A datagram.
    Datagram(Bytes),
    /// The peer has fallen silent, or is heard again.
    Silence(bool),
    /// Bytes have left a stream's queue.
    Sent { stream: StreamId, length: usize },
    /// It was up, and is no more.
    Closed(Closed),
    /// It never came up.
    Failed(String),
}

/// Who opened the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// The peer.
    Server,
    /// We, to this target; with a key if the driver asked for it.
    Client { target: usize, key: Option<u64> },
}

impl Role {
    pub(super) const fn side(self) -> Side {
        match self {
            Self::Server => Side::Server,
            Self::Client { .. } => Side::Client,
        }
    }
}

/// What quiche has to send. Asking it in vain costs as much as a quarter of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Left {
    /// It must be asked.
    Unknown,
    /// Nothing: it has said so, and heard nothing since.
    Nothing,
    /// Nothing but what it was handed of one stream since: a packet with room left holds all of it.
    OneStream,
}

#[derive(Debug)]
enum Phase {
    Handshake {
        deadline: Instant,
    },
    /// The handshake is over; HTTP/3 has no session yet.
    Asking {
        deadline: Instant,
    },
    Up,
    /// The driver closed it; what is queued goes first.
    Lingering {
        code: SessionCode,
        reason: String,
        deadline: Instant,
    },
    /// The driver knows that it is over.
    Over,
}

/// A connection and its queues.
pub(super) struct Connection {
    pub(super) session: SessionId,
    pub(super) role: Role,
    /// The socket that its packets come to.
    pub(super) socket: usize,
    /// Our address when it began.
    local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// What the client's first packets are known by, until it knows our id.
    pub(super) initial: Option<InitialKey>,
    /// The deadline that the timer wheel holds.
    pub(super) timer: Option<Tick>,
    /// Whether it stands in the worker's list of those to be attended to.
    pub(super) attended: bool,
    /// Whether it stands in a socket's list of those that wait for it to take more.
    pub(super) stalled: bool,
    /// Whether something was sent on its streams since its peer was heard last.
    pub(super) owed: bool,
    /// Whether something waits until its peer has acknowledged.
    pub(super) held: bool,
    quic: Quic,
    phase: Phase,
    outgoing: Outgoing,
    datagrams: Datagrams,
    incoming: Incoming,
    events: VecDeque<Event>,
    /// Why the server is believed, until it is.
    trust: Option<Trust>,
    /// What stands between the connection and the driver, if it is over HTTP/3.
    web: Option<Box<web::Web>>,
    keep_alive: Option<Duration>,
    idle_timeout: Duration,
    keep_alive_at: Option<Instant>,
    /// When a peer that has said nothing by then is taken for dead. QUIC's own idle timeout begins
    /// anew with the sign of life that we ask for, and so would end later by that.
    dead_at: Option<Instant>,
    /// Whether it was.
    is_dead: bool,
    silence: Silence,
    /// Until when quiche's timers wait, since this process was stopped and the peer has not been
    /// heard again yet.
    forgiven_until: Option<Instant>,
    /// The id by which the peer speaks to us, once it does.
    spoken_to: Option<Cid>,
    /// What the record says of it.
    noted: Option<Link>,
    scan_at: Instant,
    scan_wanted: bool,
    /// Streams that the peer had stopped when they were looked for last.
    stops_seen: u64,
    left: Left,
    /// Every path that the peer was ever seen on: our address, and the peer's.
    paths: Vec<(SocketAddr, SocketAddr)>,
    /// Until when packets may be under way on paths that are no longer used.
    left_until: Option<Instant>,
    /// How many paths are still to be asked for an acknowledgement of those.
    nudges: usize,
    /// When to see whether the path in use is proven to be the peer's.
    prove_at: Option<Instant>,
    /// Until it is: the path that the peer was heard on last.
    heard: Option<(SocketAddr, SocketAddr)>,
    /// Whether quiche has a question about a path to send.
    asks: bool,
    /// Bytes of the largest packet that the path is known to carry.
    path_mtu: usize,
    width: Width,
    /// Stream bytes handed to quiche since it last heard of its peer.
    handed: usize,
    /// About as many of them are in no packet yet.
    unwritten: usize,
    /// Whether the farewell could not be written.
    speechless: bool,
}

/// How a connection begins.
pub(super) struct Begin<'a> {
    pub(super) session: SessionId,
    pub(super) role: Role,
    pub(super) socket: usize,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) limits: &'a config::Quic,
    /// When its handshake must be over.
    pub(super) deadline: Instant,
    /// Silence of the peer's that is worth telling, beyond the time that an answer takes; zero is
    /// none.
    pub(super) silence: Duration,
    /// Why a client believes the server.
    pub(super) trust: Option<Trust>,
    /// The session that a client asks for over HTTP/3.
    pub(super) webtransport: Option<WebTransport>,
}

/// What a connection needs of its worker.
pub(super) struct Context<'a> {
    pub(super) pool: &'a mut ChunkPool,
    pub(super) counters: &'a mut Counters,
    pub(super) numbered: &'a mut Numbered,
    pub(super) now: Instant,
    /// How far our clock is behind the system's, by which quiche goes.
    pub(super) stopped: Duration,
}

impl Connection {
    /// A connection whose handshake begins.
    pub(super) fn new(begin: Begin<'_>, quic: Quic) -> Self {
        let Begin {
            session,
            role,
            socket,
            local,
            peer,
            limits,
            deadline,
            silence,
            trust,
            webtransport,
        } = begin;
        let side = role.side();
        Self {
            session,
            role,
            socket,
            local,
            peer,
            initial: None,
            timer: None,
            attended: false,
            stalled: false,
            owed: false,
            held: false,
            quic,
            phase: Phase::Handshake { deadline },
            outgoing: Outgoing::new(side),
            datagrams: Datagrams::new(limits.datagrams_max),
            incoming: Incoming::new(
                side,
                limits.streams_bidirectional_max,
                limits.streams_unidirectional_max,
            ),
            events: VecDeque::new(),
            trust,
            web: webtransport.map(web::Web::new),
            keep_alive: keep_alive(limits, silence),
            idle_timeout: limits.idle_timeout,
            keep_alive_at: None,
            dead_at: None,
            is_dead: false,
            silence: Silence::new(silence),
            forgiven_until: None,
            spoken_to: None,
            noted: None,
            scan_at: deadline,
            scan_wanted: false,
            stops_seen: 0,
            left: Left::Unknown,
            paths: vec![(local, peer)],
            left_until: None,
            nudges: 0,
            prove_at: None,
            heard: None,
            asks: false,
            path_mtu: PATH_MIN,
            width: Width::default(),
            handed: 0,
            unwritten: 0,
            speechless: false,
        }
    }

    /// quiche's part.
    pub(super) const fn quic(&mut self) -> &mut Quic {
        self.left = Left::Unknown;
        &mut self.quic
    }

    /// Whether a packet to this id is this connection's.
    pub(super) fn has_id(&self, id: &[u8]) -> bool {
        self.quic.source_ids().any(|own| own.as_ref() == id)
    }

    /// Whether the handshake is under way.
    pub(super) const fn is_half_open(&self) -> bool {
        matches!(self.phase, Phase::Handshake { .. } | Phase::Asking { .. })
    }

    /// Whether nothing is left of it: it may be removed.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over) && (self.quic.is_closed() || self.speechless)
    }

    /// Whether anything of its streams waits to be handed to quiche.
    pub(super) fn has_waiting(&self) -> bool {
        !self.outgoing.is_idle()
    }

    /// What it has to say without reading.
    pub(super) fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether it has ended, and has still to say so.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.phase, Phase::Over) && self.is_ending()
    }

    /// Whether it has something to say without reading.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty() || self.web.as_ref().is_some_and(|web| web.has_events())
    }

    /// Whether the peer should be given another id to move with.
    pub(super) fn wants_id(&self) -> bool {
        self.is_up() && 0 < self.quic.scids_left() && self.quic.active_scids() < quic::SOURCE_IDS
    }

    /// Whether it was up and the driver has not been told of its end.
    pub(super) const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Lingering { .. })
    }

    /// Takes a datagram of the peer's.
    pub(super) fn receive(&mut self, datagram: &mut [u8], info: quiche::RecvInfo, now: Instant) {
        match self.quic.recv(datagram, info) {
            Ok(_) => {
                if self.role == Role::Server {
                    self.spoken_to = packet::short_destination(datagram).or(self.spoken_to);
                }
                if self.keep_alive_at.is_some() {
                    self.note_heard(now);
                }
                if self.prove_at.is_some() {
                    self.heard = Some((info.to, info.from));
                }
            }
            Err(quiche::Error::Done) => {
                tracing::trace!(session = %self.session, peer = %info.from, "packet ignored");
            }
            Err(error) => {
                tracing::debug!(session = %self.session, peer = %info.from, %error, "bad packet");
            }
        }
        self.handed = 0;
        self.scan_wanted = true;
        self.left = Left::Unknown;
    }

    /// What the record is to say of it, if that is something else than what it says.
    pub(super) fn note(&self) -> Option<Link> {
        let id = self.spoken_to.filter(|_| self.is_up())?;
        let wanted = Link { peer: self.peer, local: self.local, id };
        (self.noted != Some(wanted)).then_some(wanted)
    }

    /// The record says this of it.
    pub(super) const fn set_noted(&mut self, link: Link) {
        self.noted = Some(link);
    }

    /// Whether the record says something of it.
    pub(super) const fn is_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// The peer lives.
    fn note_heard(&mut self, now: Instant) {
        self.forgiven_until = None;
        self.keep_alive_at = self.keep_alive.map(|interval| now + interval);
        self.wait_for_sign(now);
        if self.silence.heard(now) {
            self.events.push_back(Event::Silence(false));
        }
    }

    /// The peer has time from now on until it is taken for dead.
    fn wait_for_sign(&mut self, now: Instant) {
        self.dead_at = self.peer_idle_timeout().map(|idle| now + idle.min(self.idle_timeout));
    }

    /// What it has to say next; `budget` says how many bytes may still be read.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Option<Event> {
        // A client that wants HTTP/3 has a session before the handshake is over.
        if self.web.is_some() && !matches!(self.phase, Phase::Handshake { .. }) {
            return self.poll_web(context, budget);
        }
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        match self.phase {
            Phase::Handshake { .. } => self.poll_handshake(context, budget),
            Phase::Up => self.poll_up(context, budget),
            Phase::Lingering { .. } if self.is_ending() => Some(self.end()),
            Phase::Asking { .. } | Phase::Lingering { .. } | Phase::Over => None,
        }
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Option<Event> {
        if self.is_ending() {
            self.phase = Phase::Over;
            return Some(Event::Failed(self.failure()));
        }
        if !self.quic.is_established() {
            return None;
        }
        // Before anything is said to a server: what is asked of it may be a secret.
        if self.role != Role::Server
            && !tls::matches(self.trust.take().as_ref(), self.quic.peer_cert())
        {
            let why = "its certificate is not the one that is pinned";
            return Some(self.fail(quic::BAD_CERTIFICATE, why));
        }
        let protocol = self.quic.application_proto();
        // A client has made ready for one or the other.
        let is_web = protocol == quic::HTTP3;
        let is_ready = self.role == Role::Server || self.web.is_some() == is_web;
        match Version::from_alpn(protocol).filter(|_| is_ready) {
            Some(version) => {
                self.note_up(context.now);
                Some(Event::Connected { version })
            }
            None if is_web && is_ready => {
                self.begin_web(context.now);
                self.poll_web(context, budget)
            }
            None => Some(self.fail(quic::NO_APPLICATION_PROTOCOL, "no MOQT draft was agreed upon")),
        }
    }

    /// Ends a handshake that has led to nothing.
    fn fail(&mut self, error_code: u64, why: &str) -> Event {
        self.abandon(error_code);
        Event::Failed(why.to_owned())
    }

    /// The driver may use it.
    fn note_up(&mut self, now: Instant) {
        self.phase = Phase::Up;
        self.scan_at = now;
        if let Some(idle) = self.peer_idle_timeout() {
            self.keep_alive = self.keep_alive.map(|interval| interval.min(idle / 3));
        }
        if self.keep_alive.is_some() {
            self.note_heard(now);
        }
    }

    fn poll_up(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Option<Event> {
        let event = self.read(context, budget);
        // What was received before the end is delivered before it.
        if event.is_none() && self.is_ending() && !self.has_more() {
            return Some(self.end());
        }
        event
    }

    /// What came on it next.
    fn read(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Option<Event> {
        if let Some(event) = self.scan(context) {
            return Some(event);
        }
        if 0 < *budget {
            // What is read gives the peer room, which it is to be told.
            self.left = Left::Unknown;
        }
        if 0 < *budget
            && let Ok(bytes) = self.quic.dgram_recv_buf()
        {
            *budget = budget.saturating_sub(bytes.len().max(64));
            context.counters.datagrams_received_total += 1;
            return Some(Event::Datagram(bytes));
        }
        let event = self.incoming.read(&mut self.quic, context.pool, budget, context.counters);
        if let Some(Event::Stream { stream, .. } | Event::Reset { stream, .. }) = event {
            self.outgoing.note_peers(stream);
        }
        event
    }

    /// Whether there is more to read than the budget allowed.
    pub(super) fn has_more(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Asking { .. }) && self.incoming.is_ready(&self.quic)
    }

    /// Carries out what the driver wants.
    pub(super) fn execute(&mut self, action: Action, context: &mut Context<'_>) {
        if self.web.is_some() {
            self.execute_web(action, context);
        } else {
            self.carry_out(action, context);
        }
    }

    /// Carries out what is wanted of the connection's own streams.
    fn carry_out(&mut self, action: Action, context: &mut Context<'_>) {
        let events = web::events(&mut self.web, &mut self.events);
        let mut output = Output { events, counters: context.counters };
        let closing = !matches!(self.phase, Phase::Up);
        if !matches!(action, Action::Send { .. }) {
            self.left = Left::Unknown;
        }
        match action {
            Action::Send { stream, bytes, .. } if closing => {
                output.refused(stream.0, bytes.len());
            }
            Action::Send { stream, bytes, fin } => {
                self.outgoing.send(stream, bytes, fin, &mut output);
            }
            Action::Reset { stream, code } => {
                self.outgoing.reset(&mut self.quic, stream, code, &mut output);
            }
            Action::Stop { stream, code } => self.incoming.stop(&mut self.quic, stream, code),
            Action::Prioritize { stream, precedence } => {
                self.outgoing.prioritize(&mut self.quic, stream, precedence);
            }
            Action::Pause { stream } => self.incoming.pause(&mut self.quic, stream),
            Action::Resume { stream } => self.incoming.resume(stream),
            Action::SendDatagram { bytes, expires } => {
                self.send_datagram(bytes, expires, context);
            }
            Action::Close { code, reason } if !closing => {
                let deadline = context.now + LINGER;
                self.phase = Phase::Lingering { code, reason, deadline };
            }
            Action::Close { .. } => {}
        }
    }

    /// Hands to quiche a little of what it has room for, before packets are written; says whether
    /// that was anything.
    pub(super) fn pump(&mut self, context: &mut Context<'_>) -> bool {
        let is_used = self.is_up() || matches!(self.phase, Phase::Asking { .. });
        if self.outgoing.is_idle() || !is_used || self.is_ending() {
            return false;
        }
        let events = web::events(&mut self.web, &mut self.events);
        let mut output = Output { events, counters: context.counters };
        let pumped = self.outgoing.pump(&mut self.quic, &mut output);
        self.handed += pumped.bytes;
        self.unwritten += pumped.bytes;
        self.left = match (pumped.turns, self.left) {
            (0, left) => left,
            (1, Left::Nothing) => Left::OneStream,
            _ => Left::Unknown,
        };
        pumped.has_progress
    }

    /// Takes note that packets were written until there were none; says whether to write again.
    pub(super) fn written(&mut self, context: &mut Context<'_>) -> bool {
        let Phase::Lingering { deadline, .. } = self.phase else {
            // quiche says farewell only if the congestion window has room for it, and once it
            // wants to, hears nothing that would make room. The peer learns it by a stateless
            // reset, as soon as this connection is forgotten.
            self.speechless = self.quic.local_error().is_some() && !self.quic.is_draining();
            return false;
        };
        let all_written =
            self.handed == 0 || self.handed / ROOM_SHARE < self.outgoing.room(&mut self.quic);
        let is_late = deadline <= context.now;
        let is_idle = self.outgoing.is_idle() && self.datagrams.is_empty();
        if !(is_late || is_idle && all_written) {
            return false;
        }
        if self.say_farewell(context) {
            return true;
        }
        let Phase::Lingering { code, reason, deadline } = &mut self.phase else { return false };
        if let Some(web) = self.web.as_ref().filter(|_| !is_late) {
            match (web.is_farewell_heard(), self.role) {
                (true, Role::Client { .. }) => {}
                (true, Role::Server) => {
                    *deadline = (context.now + PARTING).min(*deadline);
                    return false;
                }
                (false, _) => return false,
            }
        }
        let (code, reason) = match &self.web {
            // Code and reason are said in the session.
            Some(_) => (http3::Code::NO_ERROR.0, String::new()),
            None => (code.0, std::mem::take(reason)),
        };
        let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_MAX)];
        self.quic.close(true, code, reason).ok();
        self.left = Left::Unknown;
        self.phase = Phase::Over;
        self.events.push_back(Event::Closed(Closed::Locally));
        true
    }

    /// Writes one packet; `None` if there is none to be sent now.
    pub(super) fn write(
        &mut self,
        room: &mut [u8],
        context: &mut Context<'_>,
    ) -> Option<(usize, quiche::SendInfo)> {
        if self.unwritten < room.len() && self.outgoing.is_ready() {
            // A packet that is not full would end its train.
            self.pump(context);
        }
        if self.hand_datagrams(context) {
            self.left = Left::Unknown;
        }
        if 0 < self.nudges
            && let Some(written) = self.write_nudge(room)
        {
            return Some(written);
        }
        if self.left == Left::Nothing {
            return None;
        }
        let fillable = if self.prove_at.is_some() { self.fillable(room.len()) } else { room.len() };
        if fillable == 0 {
            return None;
        }
        let room = &mut room[..fillable];
        let written = match self.quic.send(room) {
            Err(quiche::Error::Done) if 1 < self.paths.len() => self.write_past_other_paths(room),
            written => written,
        };
        match written {
            Ok((length, info)) => {
                self.width.note_written(length);
                let full = self.quic.pmtu().unwrap_or(PATH_MIN).min(room.len());
                if self.left == Left::OneStream && length + ROOM_CERTAIN <= full {
                    self.left = Left::Nothing;
                }
                self.unwritten = self.unwritten.saturating_sub(length - length.min(OVERHEAD));
                Some((length, info))
            }
            Err(quiche::Error::Done) => {
                self.unwritten = 0;
                self.left = Left::Nothing;
                None
            }
            Err(error) => {
                tracing::debug!(session = %self.session, %error, "no packet can be written");
                self.quic().close(false, 0x1, b"").ok();
                None
            }
        }
    }

    /// When it wants attention without any packet.
    pub(super) fn deadline(&self, stopped: Duration) -> Option<Instant> {
        let own = match self.phase {
            Phase::Handshake { deadline }
            | Phase::Asking { deadline }
            | Phase::Lingering { deadline, .. } => Some(deadline),
            Phase::Up => {
                let silence = self.silence.deadline();
                self.keep_alive_at.into_iter().chain(self.dead_at).chain(silence).min()
            }
            Phase::Over => None,
        };
        let scan = (self.scan_wanted && matches!(self.phase, Phase::Up)).then_some(self.scan_at);
        let quic = self.quic_deadline(stopped);
        [quic, own, scan, self.prove_at].into_iter().flatten().min()
    }

    /// The same of quiche.
    fn quic_deadline(&self, stopped: Duration) -> Option<Instant> {
        let wanted = self.quic.timeout_instant()?.checked_sub(stopped)?;
        Some(self.forgiven_until.map_or(wanted, |until| until.max(wanted)))
    }

    /// This process was stopped: a peer that was not heard meanwhile is asked for a sign of life, and
    /// has time to answer.
    pub(super) fn handle_stop(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Up) && self.keep_alive_at.is_some() {
            self.wait_for_sign(now);
            self.silence.forgive(now);
            self.keep_alive_at = Some(now);
            self.forgiven_until = Some(now + FORGIVENESS);
        }
    }

    /// Does what its deadline was for.
    pub(super) fn handle_timeout(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        self.left = Left::Unknown;
        if self.quic_deadline(context.stopped).is_some_and(|deadline| deadline <= now) {
            self.quic.on_timeout();
            self.suspect_silence(context.counters);
            if self.left_until.is_some_and(|until| now < until) {
                self.nudges = self.paths.len();
            }
            if self.prove_at.is_some() {
                self.prove_path(now);
            }
        }
        if self.keep_alive_at.is_some_and(|deadline| deadline <= now) {
            self.quic.send_ack_eliciting().ok();
            // Until the peer is heard again it is asked more often: its answers may go to where we
            // were a moment ago.
            self.keep_alive_at =
                self.keep_alive.map(|interval| now + interval / KEEP_ALIVE_URGENCY);
        }
        if matches!(self.phase, Phase::Up) && self.silence.deadline().is_some_and(|at| at <= now) {
            let path = self.quic.path_stats().find(|path| path.active);
            if self.silence.handle_timeout(path.map_or(Duration::ZERO, |path| path.rtt), now) {
                self.events.push_back(Event::Silence(true));
            }
        }
        if matches!(self.phase, Phase::Up) && self.dead_at.is_some_and(|at| at <= now) {
            // In case that it lives after all, it is told.
            self.quic.close(false, 0, b"").ok();
            self.dead_at = None;
            self.is_dead = true;
        }
        if self.prove_at.is_some_and(|deadline| deadline <= now) {
            self.prove_path(now);
        }
        if let Phase::Handshake { deadline } | Phase::Asking { deadline } = self.phase
            && deadline <= now
        {
            self.phase = Phase::Over;
            self.events.push_back(Event::Failed("no answer".to_owned()));
            self.quic.close(false, quic::CONNECTION_REFUSED, b"").ok();
        }
    }

    /// Ends a handshake that is no longer wanted.
    pub(super) fn abandon(&mut self, error_code: u64) {
        self.quic().close(false, error_code, b"").ok();
        self.phase = Phase::Over;
    }

    /// Forgets its queues, for good.
    pub(super) fn clear(&mut self, counters: &mut Counters) {
        self.outgoing.clear(counters);
        self.datagrams.clear(counters);
    }

    /// Whether quiche says that it ends, or has ended.
    fn is_ending(&self) -> bool {
        self.quic.is_closed() || self.quic.is_draining() || self.quic.local_error().is_some()
    }

    /// Why it ends, for the driver.
    fn end(&mut self) -> Event {
        self.phase = Phase::Over;
        let closed = if let Some(error) = self.quic.peer_error() {
            if error.is_app {
                Closed::ByPeer {
                    code: error.error_code,
                    reason: Bytes::copy_from_slice(
                        &error.reason[..error.reason.len().min(REASON_MAX)],
                    ),
                }
            } else {
                Closed::Transport { code: error.error_code }
            }
        } else if let Some(error) = self.quic.local_error().filter(|_| !self.is_dead) {
            Closed::Transport { code: error.error_code }
        } else {
            Closed::TimedOut
        };
        Event::Closed(match &self.web {
            Some(web) => web.end(closed),
            None => closed,
        })
    }

    /// Why the handshake failed, for people.
    fn failure(&self) -> String {
        let (who, error) = match (self.quic.peer_error(), self.quic.local_error()) {
            (Some(error), _) => ("the peer refuses", error),
            (None, Some(error)) => ("refused", error),
            (None, None) => return "no answer".to_owned(),
        };
        match error.error_code {
            code @ 0x100..=0x1ff if !error.is_app => {
                format!("{who}: TLS: {}", tls::alert_name(code & 0xff))
            }
            code => format!("{who}: QUIC error 0x{code:x}"),
        }
    }

    /// Looks for streams that ended unseen, if there may be any and it is time.
    fn scan(&mut self, context: &mut Context<'_>) -> Option<Event> {
        if !self.scan_wanted || context.now < self.scan_at {
            return None;
        }
        if let Some(event) = self.incoming.scan(&mut self.quic, context.counters) {
            return Some(event);
        }
        self.scan_wanted = false;
        let stops = self.quic.stats().stopped_stream_count_remote;
        let mut asked = self.incoming.len();
        if std::mem::replace(&mut self.stops_seen, stops) != stops {
            let events = web::events(&mut self.web, &mut self.events);
            let mut output = Output { events, counters: context.counters };
            asked += self.outgoing.scan(&mut self.quic, &mut output);
        }
        self.scan_at = context.now;
        if SCAN_ALWAYS < asked {
            let asked = u32::try_from(asked).unwrap_or(u32::MAX);
            self.scan_at += SCAN_PER_STREAM.saturating_mul(asked).min(SCAN_MAX);
        }
        web::events(&mut self.web, &mut self.events).pop_front()
    }

    fn peer_idle_timeout(&self) -> Option<Duration> {
        let millis = self.quic.peer_transport_params()?.max_idle_timeout;
        (millis != 0).then(|| Duration::from_millis(millis))
    }
}

/// The silence to break, well before either end takes it for death, or it is told.
fn keep_alive(limits: &config::Quic, silence: Duration) -> Option<Duration> {
    let wanted = (!limits.keep_alive.is_zero()).then_some(limits.keep_alive)?;
    let ends = [limits.idle_timeout, silence].into_iter().filter(|end| !end.is_zero());
    ends.map(|end| end / 3).chain([wanted]).min()
}
