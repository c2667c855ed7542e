//! The run as one driver: a publisher and its subscribers on one worker's loop.
//!
//! Stages: the publisher announces, subscribers connect at their pace, then objects are published
//! when they are due, whoever lags; in the end what is under way is waited for, within reason.

mod members;
mod outcome;
mod stages;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use aip_codec::moqt::name::FullTrackName;
use aip_engine::{
    session::Session,
    transport::{Action, Closed, Connect, Driver, Peer, SessionId, StreamId},
};
use bytes::Bytes;

use self::members::{Member, Wait};
pub use self::outcome::{Outcome, Parts, Places, Told};
use super::{
    churn::Churning,
    payload::Template,
    plan::Plan,
    publisher::Publisher,
    subscriber::{Subscriber, Taken},
    tally::Tally,
};
use crate::{clock::Clock, measure::Phase, progress::Progress, schedule::Schedule};

/// The key of the publisher's connection; a subscriber's is its number.
const PUBLISHER: u64 = u64::MAX;
/// Handshakes under way at one time.
const CONNECTING_MAX: usize = 64;
/// How often each session is told the time.
const SWEEP: Duration = Duration::from_millis(200);
/// Sessions that are told the time in one go: more of them would hold up what is due.
const SLICE_MAX: usize = 1_000;
/// After which a subscriber that could not connect tries again.
const RETRY: Duration = Duration::from_millis(200);
/// Objects published in one turn, should many be due at once.
const BURST_MAX: usize = 256;
/// Before the first object, so that nobody is still being told of its subscription.
const SETTLE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Announcing,
    Connecting,
    Publishing { origin: Instant },
    Draining { origin: Instant, deadline: Instant },
    Over,
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
    /// Of the sessions that are told the time next, the first.
    sweep_from: usize,
    connects: VecDeque<Connect>,
    actions: VecDeque<(SessionId, Action)>,
    outcome: Outcome,
    begin_at: Option<u64>,
    tell: mpsc::Sender<Told>,
    progress: Option<Arc<Mutex<Progress>>>,
}

impl FanOut {
    /// A run that begins at once.
    pub fn new(plan: Plan, parts: Parts, now: Instant) -> Self {
        let Parts { places, track, run, seed, clock, begin_at, tell, progress } = parts;
        let subscribers = plan.subscribers;
        let tally = Tally::new(run, subscribers, places.relays.len(), plan.late_nanoseconds);
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
            sweep_from: 0,
            connects,
            actions: VecDeque::new(),
            outcome: Outcome::new(tally, plan.measured),
            plan,
            places,
            track,
            run,
            clock,
            begin_at,
            tell,
            progress,
        }
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

    fn handle_drain(&mut self, now: Instant) {
        self.interrupt(now);
    }

    fn is_drained(&self) -> bool {
        self.stage == Stage::Over
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
