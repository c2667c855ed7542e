//! The run as one driver: a publisher and its subscribers on one worker's loop.
//!
//! Stages: the publisher announces, subscribers connect at their pace, then objects are published
//! when they are due, whoever lags; in the end what is under way is waited for, within reason.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use aip_codec::moqt::name::FullTrackName;
use aip_engine::{
    session::{self, Session},
    transport::{Action, Closed, Connect, Driver, Peer, SessionId, StreamId},
};
use bytes::Bytes;

use super::{
    churn::{Churning, Step},
    payload::{Stamp, Template},
    plan::Plan,
    publisher::{Announcement, Publisher},
    subscriber::{News, Subscriber, Taken},
    tally::Tally,
};
use crate::{
    clock::Clock,
    measure::{Phase, Times},
    schedule::Schedule,
};

/// The key of the publisher's connection; a subscriber's is its number.
const PUBLISHER: u64 = u64::MAX;
/// Handshakes under way at one time.
const CONNECTING_MAX: usize = 64;
/// How often sessions are told the time, and seconds are ended.
const SWEEP: Duration = Duration::from_millis(200);
/// After which a subscriber that could not connect tries again.
const RETRY: Duration = Duration::from_millis(200);
/// Objects published in one turn, should many be due at once.
const BURST_MAX: usize = 256;
/// Before the first object, so that nobody is still being told of its subscription.
const SETTLE: Duration = Duration::from_millis(200);

/// Where publisher and subscribers connect to.
#[derive(Clone, Debug)]
pub struct Places {
    /// The publisher's relay; it is target 0.
    pub origin: SocketAddr,
    /// The subscribers' relays, in turn; targets 1 and on.
    pub relays: Vec<SocketAddr>,
}

/// What the driver tells whoever waits for the run.
#[derive(Debug)]
pub enum Told {
    /// The measured part begins.
    Measuring,
    /// The measured part is over.
    Measured,
    /// The run is over.
    Over(Box<Outcome>),
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// All accounts, concluded.
    pub tally: Tally,
    /// From when an object was due until it was published.
    pub lag: Times,
    /// From the beginning of a handshake until MOQT's SETUP was through.
    pub connect: Times,
    /// From SUBSCRIBE to SUBSCRIBE_OK.
    pub subscribe: Times,
    /// The draft spoken with the publisher's relay.
    pub draft: u8,
    /// Why the run did not go to its end.
    pub failed: Option<String>,
    /// Subscriptions that the publisher saw at the end: 1 for each relay that aggregates.
    pub upstream_subscriptions: usize,
}

/// What others may see of a run while it goes on.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// In words.
    pub stage: String,
    /// Subscribers that are ready.
    pub ready: usize,
    /// Objects published.
    pub published: u64,
    /// The seconds so far.
    pub timeline: Vec<crate::report::Interval>,
    /// Errors so far.
    pub errors: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Announcing,
    Connecting,
    Publishing { origin: Instant },
    Draining { origin: Instant, deadline: Instant },
    Over,
}

enum Member {
    /// It waits to be connected, from then on.
    Idle { due: Instant },
    /// Its handshake began then.
    Connecting { since: Instant },
    /// It has a session. If it waits for an answer, since when, and for which.
    Up { subscriber: Box<Subscriber>, waits: Option<(Wait, Instant)> },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wait {
    Setup,
    SubscribeOk,
}

/// See the module.
pub struct FanOut {
    plan: Plan,
    places: Places,
    track: FullTrackName,
    run: u32,
    clock: Clock,
    template: Template,
    schedule: Schedule,
    /// When the next object is due, from the first one's time.
    upcoming: Option<Duration>,
    stage: Stage,
    stage_deadline: Instant,
    publisher: Option<(SessionId, Publisher)>,
    members: Vec<Member>,
    who: HashMap<SessionId, u64>,
    idle: VecDeque<usize>,
    connecting: usize,
    ready: usize,
    next_connect: Instant,
    churning: Churning,
    phase: Phase,
    next_sweep: Instant,
    connects: VecDeque<Connect>,
    actions: VecDeque<(SessionId, Action)>,
    outcome: Outcome,
    tell: mpsc::Sender<Told>,
    progress: Arc<Mutex<Progress>>,
}

/// What a [`FanOut`] needs besides its plan.
#[derive(Debug)]
pub struct Parts {
    /// Where to connect to.
    pub places: Places,
    /// The track.
    pub track: FullTrackName,
    /// The run's number, by which its objects are known.
    pub run: u32,
    /// Seed of arrivals and filler.
    pub seed: u64,
    /// The clock of stamps.
    pub clock: Clock,
    /// Told what happens.
    pub tell: mpsc::Sender<Told>,
    /// Kept up to date.
    pub progress: Arc<Mutex<Progress>>,
}

impl FanOut {
    /// A run that begins at once.
    pub fn new(plan: Plan, parts: Parts, now: Instant) -> Self {
        let Parts { places, track, run, seed, clock, tell, progress } = parts;
        let subscribers = plan.subscribers;
        let tally = Tally::new(run, subscribers, plan.late_nanoseconds);
        let mut schedule =
            plan.arrivals.schedule(plan.warm_up, plan.measured, plan.cool_down, seed);
        let connects =
            VecDeque::from([Connect { target: 0, address: places.origin, key: PUBLISHER }]);
        Self {
            template: Template::new(plan.size, seed),
            upcoming: schedule.next(),
            schedule,
            stage: Stage::Announcing,
            stage_deadline: now + plan.setup,
            publisher: None,
            members: (0..subscribers).map(|_| Member::Idle { due: now }).collect(),
            who: HashMap::new(),
            idle: (0..subscribers).collect(),
            connecting: 0,
            ready: 0,
            next_connect: now,
            churning: Churning::new(plan.churn, subscribers),
            phase: Phase::WarmUp,
            next_sweep: now,
            connects,
            actions: VecDeque::new(),
            outcome: Outcome {
                tally,
                lag: Times::default(),
                connect: Times::default(),
                subscribe: Times::default(),
                draft: 0,
                failed: None,
                upstream_subscriptions: 0,
            },
            plan,
            places,
            track,
            run,
            clock,
            tell,
            progress,
        }
    }

    fn fail(&mut self, reason: String) {
        if self.outcome.failed.is_none() {
            self.outcome.failed = Some(reason);
        }
        self.finish();
    }

    fn finish(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        self.stage = Stage::Over;
        let tally = std::mem::replace(&mut self.outcome.tally, Tally::new(0, 0, None));
        let mut outcome = Outcome {
            tally,
            lag: std::mem::take(&mut self.outcome.lag),
            connect: std::mem::take(&mut self.outcome.connect),
            subscribe: std::mem::take(&mut self.outcome.subscribe),
            draft: self.outcome.draft,
            failed: self.outcome.failed.take(),
            upstream_subscriptions: self
                .publisher
                .as_ref()
                .map_or(0, |(_, publisher)| publisher.subscribers()),
        };
        outcome.tally.conclude();
        if let Some((_, publisher)) = &self.publisher
            && 0 < publisher.withheld
        {
            let kind = "withheld by the publisher: 64 MiB waited for its relay";
            outcome.tally.counts.errors.insert(kind.to_owned(), publisher.withheld);
        }
        // Whoever waited may have given up.
        _ = self.tell.send(Told::Over(Box::new(outcome)));
    }

    fn error(&mut self, kind: &str) {
        self.outcome.tally.counts.error(kind);
    }

    /// Moves a session's actions to where the worker takes them.
    fn take_actions(&mut self, key: u64) {
        if key == PUBLISHER {
            if let Some((id, publisher)) = &mut self.publisher {
                while let Some(action) = publisher.session.poll_action() {
                    self.actions.push_back((*id, action));
                }
            }
            return;
        }
        let Ok(index) = usize::try_from(key) else { return };
        if let Some(Member::Up { subscriber, .. }) = self.members.get_mut(index) {
            let id = subscriber.id;
            while let Some(action) = subscriber.session.poll_action() {
                self.actions.push_back((id, action));
            }
        }
    }

    fn member(&mut self, key: u64) -> Option<&mut Member> {
        self.members.get_mut(usize::try_from(key).ok()?)
    }

    /// Acts on what a session has to tell.
    fn attend(&mut self, key: u64, now: Instant) {
        if key == PUBLISHER {
            if let Some((_, publisher)) = &mut self.publisher {
                publisher.drain_events();
                if let Announcement::Refused(reason) = &publisher.announcement {
                    let reason = reason.clone();
                    self.fail(reason);
                }
            }
            self.take_actions(key);
            return;
        }
        loop {
            let Some(Member::Up { subscriber, .. }) = self.member(key) else { return };
            let Some(news) = subscriber.poll_news() else { break };
            self.handle_news(key, news, now);
        }
        self.take_actions(key);
    }

    fn handle_news(&mut self, key: u64, news: News, now: Instant) {
        let track = self.track.clone();
        let Ok(index) = usize::try_from(key) else { return };
        let Some(Member::Up { subscriber, waits }) = self.members.get_mut(index) else { return };
        match (news, *waits) {
            (News::Established, Some((Wait::Setup, since))) => {
                self.outcome.connect.record(nanoseconds(since, now));
                let asked = subscriber.subscribe(&track);
                *waits = Some((Wait::SubscribeOk, now));
                if let Err(reason) = asked {
                    self.error(&format!("SUBSCRIBE: {reason}"));
                }
            }
            (News::Accepted, Some((Wait::SubscribeOk, since))) => {
                self.outcome.subscribe.record(nanoseconds(since, now));
                *waits = None;
                self.ready += 1;
                self.outcome.tally.join(index);
                self.churning.came_back(index);
            }
            (News::Ended(reason), _) => {
                if waits.take().is_none() {
                    self.ready -= 1;
                }
                self.error(&reason);
                if self.stage == Stage::Connecting {
                    self.fail(format!("a subscriber could not subscribe: {reason}"));
                }
            }
            (News::Established | News::Accepted, _) => {}
        }
    }

    fn advance(&mut self, now: Instant) {
        match self.stage {
            Stage::Announcing => {
                let announced = self
                    .publisher
                    .as_ref()
                    .is_some_and(|(_, publisher)| publisher.announcement == Announcement::Accepted);
                if announced {
                    self.stage = Stage::Connecting;
                    self.next_connect = now;
                } else if self.stage_deadline <= now {
                    self.fail("the publisher's namespace was not accepted in time".to_owned());
                }
            }
            Stage::Connecting => {
                self.connect(now);
                if self.ready == self.members.len() {
                    self.stage = Stage::Publishing { origin: now + SETTLE };
                } else if self.stage_deadline <= now {
                    let (ready, all) = (self.ready, self.members.len());
                    let errors = &self.outcome.tally.counts.errors;
                    self.fail(format!(
                        "{ready} of {all} subscribers were ready in time; {errors:?}"
                    ));
                }
            }
            Stage::Publishing { origin } => {
                self.connect(now);
                self.churn(now);
                self.publish(origin, now);
            }
            Stage::Draining { deadline, .. } => {
                if self.outcome.tally.outstanding() == 0 || deadline <= now {
                    self.finish();
                }
            }
            Stage::Over => {}
        }
    }

    /// Begins connections, at their pace.
    fn connect(&mut self, now: Instant) {
        while self.next_connect <= now && self.connecting < CONNECTING_MAX {
            let due = |member: &Member| matches!(member, Member::Idle { due } if *due <= now);
            let Some(&index) = self.idle.front() else { return };
            if !self.members.get(index).is_some_and(due) {
                return;
            }
            self.idle.pop_front();
            self.members[index] = Member::Connecting { since: now };
            self.connecting += 1;
            let relay = index % self.places.relays.len();
            self.connects.push_back(Connect {
                target: 1 + relay,
                address: self.places.relays[relay],
                key: index as u64,
            });
            let gap = Duration::from_secs_f64(1.0 / self.plan.connect_rate);
            // Whoever was held up does not make up for it at once.
            self.next_connect = (self.next_connect + gap).max(now - gap);
        }
    }

    /// Publishes what is due.
    fn publish(&mut self, origin: Instant, now: Instant) {
        for _ in 0..BURST_MAX {
            let Some(offset) = self.upcoming else {
                self.stage = Stage::Draining { origin, deadline: now + self.plan.drain };
                self.enter(Phase::CoolDown);
                return;
            };
            let due = origin + offset;
            if now < due {
                return;
            }
            self.upcoming = self.schedule.next();
            let phase = if offset < self.plan.warm_up {
                Phase::WarmUp
            } else if offset < self.plan.warm_up + self.plan.measured {
                Phase::Measured
            } else {
                Phase::CoolDown
            };
            self.enter(phase);
            let sequence = self.outcome.tally.publish(phase);
            let (due, sent) = (self.clock.of(due), self.clock.now());
            if phase == Phase::Measured {
                self.outcome.lag.record(sent.saturating_sub(due));
            }
            let payload = self.template.stamp(Stamp { run: self.run, sequence, due, sent });
            if let Some((_, publisher)) = &mut self.publisher {
                publisher.publish(sequence, &payload);
            }
            self.take_actions(PUBLISHER);
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase == phase {
            return;
        }
        // Whoever waited may have given up.
        if phase == Phase::Measured {
            _ = self.tell.send(Told::Measuring);
        } else {
            if self.phase == Phase::WarmUp {
                _ = self.tell.send(Told::Measuring);
            }
            _ = self.tell.send(Told::Measured);
        }
        self.phase = phase;
    }

    fn churn(&mut self, now: Instant) {
        while let Some(step) = self.churning.poll(now) {
            match step {
                Step::Leave(index) => self.outcome.tally.leave(index),
                Step::Resubscribe(index) => {
                    let track = self.track.clone();
                    let Some(Member::Up { subscriber, waits }) = self.members.get_mut(index) else {
                        continue;
                    };
                    subscriber.unsubscribe();
                    let asked = subscriber.subscribe(&track);
                    if waits.replace((Wait::SubscribeOk, now)).is_none() {
                        self.ready -= 1;
                    }
                    if let Err(reason) = asked {
                        self.error(&format!("SUBSCRIBE: {reason}"));
                    }
                    self.take_actions(index as u64);
                }
                Step::Reconnect(index) => {
                    let Some(Member::Up { subscriber, .. }) = self.members.get_mut(index) else {
                        continue;
                    };
                    let code = aip_codec::moqt::error_code::SessionCode::NO_ERROR;
                    subscriber.session.close(code, "reconnecting");
                    self.take_actions(index as u64);
                }
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.next_sweep = now + SWEEP;
        if let Some((_, publisher)) = &mut self.publisher {
            publisher.session.handle_timeout(now);
        }
        self.attend(PUBLISHER, now);
        for key in 0..self.members.len() as u64 {
            if let Some(Member::Up { subscriber, .. }) = self.member(key) {
                subscriber.session.handle_timeout(now);
                self.attend(key, now);
            }
        }
        if let Stage::Publishing { origin } | Stage::Draining { origin, .. } = self.stage
            && origin <= now
        {
            self.outcome.tally.tick(self.clock.of(now), self.clock.of(origin));
        }
        self.show();
    }

    fn show(&self) {
        let stage = match self.stage {
            Stage::Announcing => "announcing".to_owned(),
            Stage::Connecting => "connecting".to_owned(),
            Stage::Publishing { .. } => format!("{:?}", self.phase).to_lowercase(),
            Stage::Draining { .. } => "draining".to_owned(),
            Stage::Over => return,
        };
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let known = progress.timeline.len();
        progress.stage = stage;
        progress.ready = self.ready;
        progress.published = self.outcome.tally.published();
        progress.errors = self.outcome.tally.counts.errors_total();
        progress.timeline.extend(self.outcome.tally.timeline.iter().skip(known).cloned());
    }

    fn session_config(peer: &Peer) -> session::Config {
        let mut config = session::Config::default();
        config.authority.clone_from(&peer.authority);
        config.path.clone_from(&peer.path);
        // A bare MOQT client: it makes no calls.
        config.aip = None;
        config
    }
}

impl std::fmt::Debug for FanOut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FanOut")
            .field("stage", &self.stage)
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

fn nanoseconds(since: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX)
}

impl Driver for FanOut {
    type Command = ();

    fn handle_connected(&mut self, session: SessionId, peer: Peer, now: Instant) {
        let Some(key) = peer.key else { return };
        let config = Self::session_config(&peer);
        let opened = Session::new(config, peer.side, peer.version, now);
        self.who.insert(session, key);
        if key == PUBLISHER {
            self.outcome.draft = peer.version.number();
            let (delivery, length) = (self.plan.delivery, self.plan.group_length);
            let publisher = Publisher::new(opened, self.track.clone(), delivery, length);
            self.publisher = Some((session, publisher));
        } else if let Some(member) = self.member(key) {
            let since = match member {
                Member::Connecting { since } => *since,
                Member::Idle { .. } | Member::Up { .. } => now,
            };
            let subscriber = Box::new(Subscriber::new(session, opened));
            *member = Member::Up { subscriber, waits: Some((Wait::Setup, since)) };
            self.connecting -= 1;
            self.connect(now);
        }
        self.attend(key, now);
    }

    fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        let Some(&key) = self.who.get(&session) else { return };
        if key == PUBLISHER {
            if let Some((_, publisher)) = &mut self.publisher {
                publisher.session.handle_stream(stream, bytes, fin, now);
            }
            self.attend(key, now);
            return;
        }
        let Ok(index) = usize::try_from(key) else { return };
        let Some(Member::Up { subscriber, .. }) = self.members.get_mut(index) else { return };
        let (tally, clock) = (&mut self.outcome.tally, &self.clock);
        // The clock is read for each object: what came before it in this turn took its time, too.
        let taken = subscriber.handle_stream(stream, &bytes, fin, |(stamp, length)| {
            tally.arrive(index, stamp, length, clock.now());
        });
        match taken {
            Taken::Yes => {}
            Taken::Malformed => self.error("malformed subgroup stream"),
            Taken::No => {
                subscriber.session.handle_stream(stream, bytes, fin, now);
                self.attend(key, now);
            }
        }
    }

    fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        let Some(&key) = self.who.get(&session) else { return };
        if key == PUBLISHER {
            if let Some((_, publisher)) = &mut self.publisher {
                publisher.session.handle_reset(stream, code, now);
            }
        } else if let Some(Member::Up { subscriber, .. }) = self.member(key) {
            match subscriber.handle_reset(stream) {
                Some(true) => self.error("subgroup stream reset"),
                Some(false) => {}
                None => {
                    subscriber.session.handle_reset(stream, code, now);
                    self.attend(key, now);
                }
            }
            return;
        }
        self.attend(key, now);
    }

    fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        let Some(&key) = self.who.get(&session) else { return };
        if key == PUBLISHER {
            if let Some((_, publisher)) = &mut self.publisher {
                publisher.session.handle_stop(stream, code, now);
            }
        } else if let Some(Member::Up { subscriber, .. }) = self.member(key) {
            subscriber.session.handle_stop(stream, code, now);
        }
        self.attend(key, now);
    }

    fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, _now: Instant) {
        let index = self.who.get(&session).and_then(|key| usize::try_from(*key).ok());
        let Some(index) = index else { return };
        if let Some((stamp, length)) = Subscriber::handle_datagram(bytes) {
            self.outcome.tally.arrive(index, stamp, length, self.clock.now());
        }
    }

    fn handle_sent(&mut self, session: SessionId, stream: StreamId, length: usize, now: Instant) {
        match self.who.get(&session) {
            Some(&PUBLISHER) => {
                if let Some((_, publisher)) = &mut self.publisher {
                    publisher.session.handle_sent(stream, length, now);
                }
            }
            Some(&key) => {
                if let Some(Member::Up { subscriber, .. }) = self.member(key) {
                    subscriber.session.handle_sent(stream, length, now);
                }
            }
            None => {}
        }
    }

    fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant) {
        let Some(key) = self.who.remove(&session) else { return };
        if self.stage == Stage::Over {
            return;
        }
        if key == PUBLISHER {
            self.publisher = None;
            self.fail(format!("the publisher lost its session: {}", describe(&closed)));
            return;
        }
        let Ok(index) = usize::try_from(key) else { return };
        let Some(member) = self.members.get_mut(index) else { return };
        if let Member::Up { waits: None, .. } = member {
            self.ready -= 1;
        }
        *member = Member::Idle { due: now };
        self.idle.push_back(index);
        if closed != Closed::Locally {
            self.error(&format!("session lost: {}", describe(&closed)));
        }
    }

    fn handle_unreachable(&mut self, _target: usize, _reason: &str, _now: Instant) {}

    fn handle_connect_failed(&mut self, key: u64, reason: &str, now: Instant) {
        if self.stage == Stage::Over {
            return;
        }
        if key == PUBLISHER {
            self.fail(format!("the relay cannot be reached: {reason}"));
            return;
        }
        self.error(&format!("connect: {reason}"));
        let Ok(index) = usize::try_from(key) else { return };
        if let Some(member) = self.members.get_mut(index) {
            *member = Member::Idle { due: now + RETRY };
            self.idle.push_back(index);
            self.connecting -= 1;
        }
    }

    fn handle_command(&mut self, (): (), _now: Instant) {}

    fn handle_drain(&mut self, _now: Instant) {
        if self.stage != Stage::Over {
            self.fail("interrupted".to_owned());
        }
    }

    fn is_drained(&self) -> bool {
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.next_sweep <= now {
            self.sweep(now);
        }
        self.advance(now);
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        self.actions.pop_front()
    }

    fn poll_connect(&mut self) -> Option<Connect> {
        self.connects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let due = match self.stage {
            Stage::Publishing { origin } => Some(origin + self.upcoming.unwrap_or_default()),
            Stage::Connecting => (self.connecting < CONNECTING_MAX && !self.idle.is_empty())
                .then_some(self.next_connect),
            Stage::Announcing | Stage::Draining { .. } | Stage::Over => None,
        };
        let due = due.unwrap_or(self.next_sweep);
        if self.stage == Stage::Over { None } else { Some(due.min(self.next_sweep)) }
    }
}

fn describe(closed: &Closed) -> String {
    match closed {
        Closed::ByPeer { code, reason } => {
            let reason = String::from_utf8_lossy(reason);
            format!("closed by the relay with code {code:#x} {}", reason.escape_debug())
        }
        Closed::Transport { code } => format!("QUIC error {code:#x}"),
        Closed::Locally => "closed by this side".to_owned(),
        Closed::TimedOut => "timed out".to_owned(),
    }
}
