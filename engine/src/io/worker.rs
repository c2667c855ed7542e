//! One thread's loop around a driver.
//!
//! One turn: poll, receive, tell the driver what connections have to say, commands, timers, send.
//! Each part is bounded, so none makes the others wait for long; what is left is done in the next
//! turn, which then does not sleep. The worker blocks nowhere but in the poll.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use aip_codec::moqt::error_code::SessionCode;
use mio::{Events, Poll, Token};

use super::{
    clock::Clock,
    connection::{Event, Role},
    dial::Dialer,
    endpoint::Endpoint,
    error::Error,
    gathering::Gathering,
    hub::Seat,
    mailbox::Receiver,
    memory::Memory,
    quic,
    resolver::Resolver,
    signals::Signals,
    status::Status,
    target::{Target, Url},
    udp::ReceiveBatch,
    wake::Wake,
};
use crate::{
    metrics::{Histogram, Snapshot, Upstream},
    transport::{Action, Closed, Connect, Driver, Move, Peer, SessionId},
};

/// The poll's token of [`Wake`].
pub(super) const WAKE: Token = Token(0);
/// The poll's token of [`Signals`].
pub(super) const SIGNALS: Token = Token(1);
/// Commands taken in one turn.
const COMMANDS_MAX: usize = 256;
/// Datagrams taken in one turn from one other worker.
const STRAYS_MAX: usize = 256;
/// Time between two snapshots of the counters.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a URI that are logged.
const URI_SHOWN: usize = 256;
/// Turns in a row in which the system is not asked, while other workers have something to say.
const POLL_EVERY: u32 = 16;
/// How often a worker that is awake for nothing looks for what others say before it asks the system:
/// about as long as that takes.
const LOOKS: u32 = 16;
/// How long farewells may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a worker is made of, before it has a driver; may be sent to its thread.
pub(super) struct Parts<C> {
    pub(super) poll: Poll,
    pub(super) wake: Arc<Wake>,
    pub(super) receiver: Receiver<C>,
    pub(super) endpoint: Endpoint,
    pub(super) signals: Option<Signals>,
    pub(super) status: Arc<Status>,
    pub(super) seat: Seat,
}

/// One thread's loop.
pub(super) struct Worker<D: Driver> {
    poll: Poll,
    events: Events,
    clock: Clock,
    wake: Arc<Wake>,
    receiver: Receiver<D::Command>,
    endpoint: Endpoint,
    batch: ReceiveBatch,
    dialer: Dialer,
    resolver: Resolver,
    signals: Option<Signals>,
    status: Arc<Status>,
    /// Where it meets the other workers.
    seat: Seat,
    driver: D,
    phase: Phase,
    /// Connections that have more to say than one turn allows.
    backlog: Vec<u32>,
    gathering: Gathering,
    /// Until when it looks for more before it sleeps.
    awake_until: Instant,
    memory: Memory,
    turns: Histogram,
    publish_at: Instant,
    /// Turns since the system was asked what has come.
    polled_ago: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Running,
    /// The driver ends what it has begun.
    Draining {
        deadline: Instant,
    },
    /// Connections say farewell.
    Closing {
        deadline: Instant,
    },
    /// Only other workers have something to do.
    Over,
}

impl<D: Driver> Worker<D> {
    /// A worker that has not begun.
    pub(super) fn new(parts: Parts<D::Command>, driver: D) -> Self {
        let Parts { poll, wake, receiver, endpoint, signals, status, seat } = parts;
        let clock = Clock::new();
        let config = endpoint.config();
        let kept_up = if config.dial.on_request { &[][..] } else { &config.targets };
        Self {
            events: Events::with_capacity(64),
            batch: ReceiveBatch::new(),
            dialer: Dialer::new(kept_up, config.dial.clone(), clock.now()),
            resolver: Resolver::new(Arc::clone(&wake)),
            phase: Phase::Running,
            backlog: Vec::new(),
            gathering: Gathering::new(config.nap),
            awake_until: clock.now(),
            memory: Memory::new(config.memory_max, clock.now()),
            turns: Histogram::default(),
            publish_at: clock.now(),
            polled_ago: 0,
            poll,
            clock,
            wake,
            receiver,
            endpoint,
            signals,
            status,
            seat,
            driver,
        }
    }

    /// Turns until it has drained.
    pub(super) fn run(mut self) -> Result<(), Error> {
        self.driver.handle_begin(self.clock.now());
        while !self.is_over() {
            self.turn()?;
        }
        self.endpoint.flush();
        self.publish();
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Error> {
        let before = self.tick(Duration::ZERO);
        let waited = self.wait(before)?;
        let now = self.tick(waited);
        let began = Clock::system();
        let received = self.endpoint.counters.udp_received_total;
        self.endpoint.receive(&mut self.batch, now);
        if received < self.endpoint.counters.udp_received_total {
            self.awake_until = now + self.endpoint.config().awake;
        }
        // What other workers said before these packets were sent comes before them.
        self.take_parcels(now);
        self.serve_all(now);
        self.look_at_memory(now);
        self.handle_commands(now);
        self.handle_timeouts(now);
        self.hand_over(now);
        self.transmit_all(now);
        self.hand_over(now);
        // What is wanted because of that is sent in the next turn.
        self.act(now);
        self.endpoint.flush();
        for slot in self.backlog.drain(..) {
            self.endpoint.attend(slot);
        }
        self.count(began);
        Ok(())
    }

    /// What time it is, after a wait of at most `waited`.
    fn tick(&mut self, waited: Duration) -> Instant {
        let stopped = self.clock.tick(waited);
        let now = self.clock.now();
        if let Some(stopped) = stopped {
            tracing::warn!(?stopped, "this process was stopped");
            self.endpoint.handle_stop(self.clock.stopped(), now);
            self.driver.handle_time_lost(stopped, now);
        }
        now
    }

    /// Takes no new work while memory is short.
    fn look_at_memory(&mut self, now: Instant) {
        let Some(is_short) = self.memory.look(now) else { return };
        // All workers find the same, and one says so.
        match is_short {
            _ if self.seat.index() != 0 => {}
            true => tracing::warn!("memory is short: no new connections and requests"),
            false => tracing::info!("memory is no longer short"),
        }
        self.endpoint.handle_shortage(is_short);
        self.driver.handle_shortage(is_short, now);
    }

    /// Sleeps until there is something to do, unless there is. How long that is at most.
    fn wait(&mut self, now: Instant) -> Result<Duration, Error> {
        let deadline = [
            self.endpoint.next(now),
            self.driver.poll_timeout().map(|deadline| self.before(deadline, now)),
            self.dialer.next(),
            self.phase.deadline(),
            Some(self.publish_at),
        ];
        let deadline = deadline.into_iter().flatten().min();
        let mut timeout = deadline.map(|deadline| deadline.saturating_duration_since(now));
        let is_due = timeout == Some(Duration::ZERO);
        let is_busy = is_due || self.endpoint.is_busy();
        let is_awake = is_busy || now < self.awake_until || self.nap(timeout);
        if is_awake && self.hears_others(if is_busy { 1 } else { LOOKS }) {
            return Ok(Duration::ZERO);
        }
        if !is_awake {
            self.wake.park();
        }
        if is_awake || !self.is_quiet() {
            timeout = Some(Duration::ZERO);
        }
        let polled = self.poll.poll(&mut self.events, timeout);
        self.wake.unpark();
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::System { what: "poll", source }),
        }
        for event in &self.events {
            if event.is_readable() {
                self.endpoint.note_readable(event.token());
            }
        }
        // The next publication of counters is never far away.
        Ok(timeout.unwrap_or(PUBLISH_INTERVAL))
    }

    /// Whether another worker has said something, so that the system, which takes longer to ask, is
    /// asked later.
    fn hears_others(&mut self, looks: u32) -> bool {
        let hears = self.polled_ago < POLL_EVERY
            && (0..looks).any(|look| {
                if 0 < look {
                    std::hint::spin_loop();
                }
                self.seat.has_news()
            });
        self.polled_ago = if hears { self.polled_ago + 1 } else { 0 };
        hears
    }

    /// Lets acknowledgements gather, if they are to and there is time; says whether.
    fn nap(&mut self, timeout: Option<Duration>) -> bool {
        let Some(nap) = self.gathering.next(self.endpoint.standing()) else { return false };
        let nap = timeout.map_or(nap, |timeout| timeout.min(nap));
        self.wake.nap(nap, || self.is_quiet());
        self.endpoint.counters.naps_total += 1;
        true
    }

    /// Until when to sleep for what the driver wants at `deadline`.
    fn before(&self, deadline: Instant, now: Instant) -> Instant {
        deadline.checked_sub(self.endpoint.config().spin).unwrap_or(now)
    }

    /// Whether no other thread has said anything.
    fn is_quiet(&self) -> bool {
        let drain = matches!(self.phase, Phase::Running) && self.receiver.wants_drain();
        let drain = drain || matches!(self.phase, Phase::Running) && self.seat.wants_drain();
        self.receiver.is_empty() && self.resolver.is_empty() && !drain && self.seat.is_quiet()
    }

    /// Tells the driver what other workers have handed over until now.
    fn take_parcels(&mut self, now: Instant) {
        for from in self.seat.others() {
            for _ in 0..self.seat.waiting(from) {
                let Some(parcel) = self.seat.pop(from) else { break };
                self.driver.handle_parcel(from, parcel, now);
            }
            self.seat.settle(from);
            for _ in 0..STRAYS_MAX {
                let Some(stray) = self.seat.pop_stray(from) else { break };
                self.endpoint.handle_stray(stray, now);
            }
        }
    }

    /// Hands over what the driver has for other workers, as far as they have room.
    fn hand_over(&mut self, now: Instant) {
        // That something has left for one may be why there is more for another.
        while self.hand_over_once(now) {}
        self.seat.wake_others(&mut self.endpoint.counters);
    }

    /// Whether anything was handed over.
    fn hand_over_once(&mut self, now: Instant) -> bool {
        let before = self.endpoint.counters.worker_parcels_total;
        for to in self.seat.others() {
            loop {
                if !self.seat.has_room(to) {
                    let is_new = self.seat.set_blocked(to, true);
                    self.endpoint.counters.worker_full_total += u64::from(is_new);
                    break;
                }
                let Some(parcel) = self.driver.poll_parcel(to, now) else {
                    self.seat.set_blocked(to, false);
                    break;
                };
                self.seat.push(to, parcel);
                self.endpoint.counters.worker_parcels_total += 1;
            }
        }
        before < self.endpoint.counters.worker_parcels_total
    }

    /// Tells the driver what connections have to say.
    fn serve_all(&mut self, now: Instant) {
        let budget = self.endpoint.config().quic.read_budget;
        for _ in 0..self.endpoint.attended() {
            let Some(slot) = self.endpoint.next_attended() else { break };
            self.serve(slot, budget, now);
            // It sends later in this turn.
            self.endpoint.attend(slot);
        }
    }

    fn serve(&mut self, slot: u32, mut budget: usize, now: Instant) {
        loop {
            let Some((connection, mut context)) = self.endpoint.connection(slot, now) else {
                return;
            };
            let (session, role) = (connection.session, connection.role);
            let Some(event) = connection.poll(&mut context, &mut budget) else { break };
            self.dispatch(slot, session, role, event, now);
            // It may hold back what is read next. The rest is done when all is told.
            self.act_urgently(session, now);
        }
        if let Some((connection, _)) = self.endpoint.connection(slot, now)
            && connection.has_more()
        {
            self.backlog.push(slot);
        }
    }

    fn dispatch(&mut self, slot: u32, session: SessionId, role: Role, event: Event, now: Instant) {
        let driver = &mut self.driver;
        match event {
            Event::Connected { version } => {
                self.handle_connected(slot, session, role, version, now)
            }
            Event::Stream { stream, bytes, fin } => {
                driver.handle_stream(session, stream, bytes, fin, now);
            }
            Event::Reset { stream, code } => driver.handle_reset(session, stream, code, now),
            Event::Stop { stream, code } => driver.handle_stop(session, stream, code, now),
            Event::Datagram(bytes) => driver.handle_datagram(session, bytes, now),
            Event::Sent { stream, length } => driver.handle_sent(session, stream, length, now),
            Event::Silence(is_silent) => driver.handle_silence(session, is_silent, now),
            Event::Closed(closed) => self.handle_closed(session, role, closed, now),
            Event::Failed(reason) => self.handle_failed(session, role, reason, now),
        }
    }

    fn handle_connected(
        &mut self,
        slot: u32,
        session: SessionId,
        role: Role,
        version: aip_codec::Version,
        now: Instant,
    ) {
        if let Role::Client { target, key } = role
            && !self.is_wanted(session, (target, key), now)
        {
            return;
        }
        self.endpoint.note_connected(slot);
        self.endpoint.counters.sessions += 1;
        self.endpoint.counters.sessions_total += 1;
        let Some((connection, _)) = self.endpoint.connection(slot, now) else { return };
        let mut peer = Peer::new(role.side(), version, connection.peer);
        peer.webtransport = connection.is_webtransport();
        if let Role::Client { target, key } = role {
            peer.target = Some(target);
            if !peer.webtransport
                && let Some(Target { url, .. }) = self.endpoint.targets.get(target)
            {
                peer.authority = Some(url.authority().to_owned());
                peer.path = Some(url.path().to_owned());
            }
            peer.key = key;
        }
        tracing::debug!(%session, peer = %peer.address, ?version, "connected");
        self.driver.handle_connected(session, peer, now);
    }

    /// Whether a server that we reached is the first, or asked for by the driver.
    fn is_wanted(
        &mut self,
        session: SessionId,
        (target, key): (usize, Option<u64>),
        now: Instant,
    ) -> bool {
        if key.is_some() {
            return true;
        }
        match self.dialer.connected(target, session, now) {
            Some(others) => {
                for other in others {
                    self.abandon(other, now);
                }
                true
            }
            None => {
                self.abandon(session, now);
                false
            }
        }
    }

    fn abandon(&mut self, session: SessionId, now: Instant) {
        let Some(slot) = self.endpoint.slot(session) else { return };
        if let Some((connection, _)) = self.endpoint.connection(slot, now) {
            connection.abandon(0);
        }
        self.endpoint.attend(slot);
    }

    fn handle_failed(&mut self, session: SessionId, role: Role, reason: String, now: Instant) {
        self.endpoint.note_failed(role);
        match role {
            Role::Client { key: Some(key), .. } => {
                self.driver.handle_connect_failed(key, &reason, now);
            }
            Role::Client { target, key: None } => {
                let failed = self.dialer.failed(target, Some(session), reason, now);
                self.tell_unreachable(target, failed, now);
            }
            Role::Server => tracing::debug!(%session, %reason, "a handshake failed"),
        }
    }

    fn tell_unreachable(&mut self, target: usize, reason: Option<String>, now: Instant) {
        if let Some(reason) = reason {
            let home = self.endpoint.targets.home(target);
            if home.is_some_and(|home| self.dialer.gives_up_move(target, home, now)) {
                self.endpoint.targets.go_home(target);
            }
            self.driver.handle_unreachable(target, &reason, now);
        }
    }

    fn handle_closed(&mut self, session: SessionId, role: Role, closed: Closed, now: Instant) {
        self.endpoint.counters.sessions -= 1;
        self.endpoint.counters.sessions_timed_out_total += u64::from(closed == Closed::TimedOut);
        if let Role::Client { target, key: None } = role {
            self.dialer.closed(target, session, now);
        }
        tracing::debug!(%session, ?closed, "closed");
        self.driver.handle_closed(session, closed, now);
    }

    /// Does what the driver wants.
    fn act(&mut self, now: Instant) {
        while let Some((session, action)) = self.driver.poll_action() {
            self.execute(session, action, now);
        }
    }

    /// Does what the driver wants of a session.
    fn act_urgently(&mut self, session: SessionId, now: Instant) {
        while let Some((session, action)) = self.driver.poll_urgent_action(session) {
            self.execute(session, action, now);
        }
    }

    fn execute(&mut self, session: SessionId, action: Action, now: Instant) {
        let Some(slot) = self.endpoint.slot(session) else { return };
        let Some((connection, mut context)) = self.endpoint.connection(slot, now) else { return };
        if connection.is_up() {
            connection.execute(action, &mut context);
            self.endpoint.attend(slot);
        }
    }

    fn handle_commands(&mut self, now: Instant) {
        for _ in 0..COMMANDS_MAX {
            let Some(command) = self.receiver.next() else { break };
            self.endpoint.counters.commands_total += 1;
            self.driver.handle_command(command, now);
            self.act(now);
        }
        let signalled = self.signals.as_mut().is_some_and(Signals::take);
        let wanted = signalled || self.receiver.wants_drain() || self.seat.wants_drain();
        if matches!(self.phase, Phase::Running) && wanted {
            self.seat.drain_all();
            self.drain(now);
        }
    }

    fn handle_timeouts(&mut self, now: Instant) {
        self.endpoint.handle_timeouts(now);
        if self.driver.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.driver.handle_timeout(now);
        }
        self.dial(now);
        self.advance_end(now);
    }

    fn dial(&mut self, now: Instant) {
        while let Some(answer) = self.resolver.answer() {
            if !self.dialer.is_waiting_for(&answer) {
                continue;
            }
            match answer.addresses {
                Ok(addresses) => self.dialer.resolved(answer.target, addresses, now),
                Err(reason) => {
                    let failed = self.dialer.failed(answer.target, None, reason, now);
                    self.tell_unreachable(answer.target, failed, now);
                }
            }
        }
        while let Some(attempt) = self.dialer.poll(&mut self.resolver, now) {
            let role = Role::Client { target: attempt.target, key: None };
            match self.endpoint.connect(role, attempt.address, now) {
                Ok(session) => self.dialer.begun(attempt.target, session),
                Err(reason) => {
                    let failed = self.dialer.failed(attempt.target, None, reason, now);
                    self.tell_unreachable(attempt.target, failed, now);
                }
            }
        }
        self.follow(now);
        self.connect(now);
    }

    /// Looks for targets where they say that they are from now on, if we may go there.
    fn follow(&mut self, now: Instant) {
        while let Some(Move { target, uri }) = self.driver.poll_move() {
            match self.endpoint.targets.permit(target, &uri) {
                Ok(url) => self.follow_to(target, url, now),
                Err(reason) => {
                    let uri = String::from_utf8_lossy(&uri[..uri.len().min(URI_SHOWN)]);
                    let uri = without_path(&uri);
                    tracing::warn!(target, ?uri, reason, "a target is not followed");
                }
            }
        }
    }

    fn follow_to(&mut self, target: usize, url: Url, now: Instant) {
        // Not the whole URL: its query may be a secret.
        let authority = url.authority();
        if !self.dialer.may_follow(target, now) {
            tracing::warn!(target, authority, "a target moves too often to be followed");
        } else if let Err(error) = self.endpoint.follow(target, url.clone()) {
            tracing::warn!(target, authority, %error, "a target is not followed");
        } else {
            tracing::info!(target, authority, "a target has moved");
            self.dialer.follow(target, &url, now);
        }
    }

    /// Begins what the driver asks for, unless everything is about to end.
    fn connect(&mut self, now: Instant) {
        while let Some(Connect { target, address, key }) = self.driver.poll_connect() {
            let role = Role::Client { target, key: Some(key) };
            let begun = match self.phase {
                Phase::Running => self.endpoint.connect(role, address, now).map(drop),
                Phase::Draining { .. } | Phase::Closing { .. } | Phase::Over => {
                    Err("draining".to_owned())
                }
            };
            if let Err(reason) = begun {
                self.driver.handle_connect_failed(key, &reason, now);
            }
        }
    }

    /// Does what the driver wants, lets connections send, and tells the driver what has left. For one
    /// connection after the other, since what is known of thousands does not fit a processor's cache.
    fn transmit_all(&mut self, now: Instant) {
        for _ in 0..Endpoint::senders_max() {
            let Some(slot) = self.next_sender(now) else { break };
            self.transmit(slot, now);
        }
        self.act(now);
    }

    /// The connection that sends next: who has waited longest, then those of whom the driver wants
    /// something more.
    fn next_sender(&mut self, now: Instant) -> Option<u32> {
        loop {
            if let Some(session) = self.endpoint.first_attended() {
                self.act_urgently(session, now);
                return self.endpoint.next_attended();
            }
            let (session, action) = self.driver.poll_action()?;
            self.execute(session, action, now);
        }
    }

    fn transmit(&mut self, slot: u32, now: Instant) {
        let mut more = self.endpoint.transmit(slot, now);
        self.tell_sent(slot, now);
        // What the driver wants by now may let it be read again.
        let connection = self.endpoint.connection(slot, now);
        more |= connection.is_some_and(|(connection, _)| connection.has_more());
        if more {
            self.backlog.push(slot);
        }
    }

    /// Tells the driver what has left, or that a connection has ended.
    fn tell_sent(&mut self, slot: u32, now: Instant) {
        while let Some((connection, _)) = self.endpoint.connection(slot, now) {
            let (session, role) = (connection.session, connection.role);
            let Some(event) = connection.take_event() else {
                if connection.has_ended() {
                    self.serve(slot, 0, now);
                }
                return;
            };
            self.dispatch(slot, session, role, event, now);
        }
    }

    /// Begins to end.
    fn drain(&mut self, now: Instant) {
        let deadline = now + self.endpoint.config().drain_timeout;
        tracing::info!("draining");
        self.phase = Phase::Draining { deadline };
        self.status.set_draining();
        self.endpoint.refuse();
        self.dialer.end();
        self.driver.handle_drain(now);
        self.act(now);
    }

    /// Goes on ending.
    fn advance_end(&mut self, now: Instant) {
        let Phase::Draining { deadline } = self.phase else { return };
        let code = if self.driver.is_drained() {
            SessionCode::NO_ERROR
        } else if deadline <= now {
            SessionCode::GOAWAY_TIMEOUT
        } else {
            return;
        };
        self.phase = Phase::Closing { deadline: now + FAREWELL };
        for slot in self.endpoint.slots() {
            let Some((connection, mut context)) = self.endpoint.connection(slot, now) else {
                continue;
            };
            if connection.is_up() {
                connection.execute(Action::Close { code, reason: String::new() }, &mut context);
            } else if connection.is_half_open() {
                connection.abandon(quic::CONNECTION_REFUSED);
            }
            self.endpoint.attend(slot);
        }
    }

    /// Whether every farewell is said, or time is up; of all workers, since until then one may have
    /// something for another.
    fn is_over(&mut self) -> bool {
        if let Phase::Closing { deadline } = self.phase
            && (deadline <= self.clock.now() || !self.endpoint.is_any_up())
        {
            self.phase = Phase::Over;
            self.seat.note_over();
        }
        matches!(self.phase, Phase::Over) && self.seat.is_all_over() || self.seat.has_failed()
    }

    /// Accounts for this turn, and lets others see the counters now and then.
    fn count(&mut self, began: Instant) {
        self.tick(Duration::ZERO);
        // By the system's clock: by ours a long turn would have taken no time.
        let busy = Clock::system().saturating_duration_since(began).as_nanos();
        let busy = u64::try_from(busy).unwrap_or(u64::MAX);
        self.endpoint.counters.busy_nanoseconds_total += busy;
        self.turns.note(busy);
        if self.publish_at <= self.clock.now() {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.publish_at = self.clock.now() + PUBLISH_INTERVAL;
        self.endpoint.observe();
        // Not the whole URL: its query may be a secret.
        let targets = self.endpoint.targets.iter();
        let upstreams = targets
            .zip(self.dialer.states(self.clock.now()))
            .map(|(target, state)| Upstream {
                authority: target.url.authority().to_owned(),
                is_up: state.is_up,
                failures: state.failures,
                retry_in_milliseconds: u64::try_from(state.retry_in.as_millis())
                    .unwrap_or(u64::MAX),
            })
            .collect();
        // One that is being looked at stays for another interval.
        let worker = self.seat.index();
        let snapshot = Snapshot {
            worker: self.endpoint.counters.clone(),
            turns: self.turns.clone(),
            upstreams,
            service: self.driver.poll_metrics(),
        };
        self.status.publish(worker, snapshot);
        if let Some(mut spans) = self.status.spans() {
            spans.add(self.driver.take_spans());
        }
    }
}

/// A URI as it is logged: its path and query may be secrets.
fn without_path(uri: &str) -> &str {
    let authority = uri.find("://").map_or(0, |scheme| scheme + 3);
    let length = uri[authority..].find(['/', '?', '#']);
    length.map_or(uri, |length| &uri[..authority + length])
}

impl Phase {
    const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Running | Self::Over => None,
            Self::Draining { deadline } | Self::Closing { deadline } => Some(deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_path_nor_query_of_a_uri_is_logged() {
        for (uri, shown) in [
            ("moqt://a.example:1/secret?secret", "moqt://a.example:1"),
            ("moqt://a.example?secret", "moqt://a.example"),
            ("a.example/secret", "a.example"),
            ("moqt://é", "moqt://é"),
            ("", ""),
        ] {
            assert_eq!(without_path(uri), shown);
        }
    }
}
