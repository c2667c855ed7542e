//! Reaching the targets, and reaching them again, for ever.
//!
//! A try asks for a target's addresses and begins a handshake with the first; every 250 ms that
//! none has come up, with the next too. The first that is up is kept. When all have failed, the
//! next try waits: twice as long as the one before it, with jitter, until a connection lasts.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use boring::rand::rand_bytes;

use super::{
    config,
    resolver::{Resolved, Resolver},
    target::{Target, Url},
};
use crate::transport::SessionId;

/// Time that an address has before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// Time in which a target is followed elsewhere once.
const MOVE_EVERY: Duration = Duration::from_secs(10);
/// Tries that fail elsewhere before a target is looked for where it was configured.
const MOVED_FAILURES_MAX: u32 = 3;
/// A connection that was up for this long lasted.
const LASTED: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The target.
    pub(super) target: usize,
    /// Where to begin a handshake.
    pub(super) address: SocketAddr,
}

/// How it stands with a target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DialState {
    /// Whether a connection is up.
    pub(super) is_up: bool,
    /// Tries that have failed, and connections that did not last, since one lasted.
    pub(super) failures: u32,
    /// Time until the next try; zero if none waits.
    pub(super) retry_in: Duration,
}

/// The state of every target.
pub(super) struct Dialer {
    targets: Vec<Dial>,
    settings: config::Dial,
    ended: bool,
}

struct Dial {
    host: String,
    port: u16,
    /// Tries failed since a connection lasted.
    failures: u32,
    /// When it was last followed elsewhere, and the tries that have failed there since one did not.
    moved: Option<(Instant, u32)>,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Resolving,
    Trying { begun: Vec<SessionId>, left: VecDeque<SocketAddr>, next: Instant, reason: String },
    Up { since: Instant, session: SessionId },
}

impl Dialer {
    /// All targets are due at once.
    pub(super) fn new(targets: &[Target], settings: config::Dial, now: Instant) -> Self {
        let targets = targets
            .iter()
            .map(|target| Dial {
                host: target.url.host().to_owned(),
                port: target.url.port(),
                failures: 0,
                moved: None,
                state: State::Waiting { until: now },
            })
            .collect();
        Self { targets, settings, ended: false }
    }

    /// Begins no more.
    pub(super) const fn end(&mut self) {
        self.ended = true;
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = |dial: &Dial| match &dial.state {
            State::Waiting { until } => Some(*until),
            State::Trying { left, next, .. } if !left.is_empty() => Some(*next),
            State::Trying { .. } | State::Resolving | State::Up { .. } => None,
        };
        if self.ended { None } else { self.targets.iter().filter_map(due).min() }
    }

    /// What is to be done now. [`Self::begun`] or [`Self::failed`] must follow.
    pub(super) fn poll(&mut self, resolver: &mut Resolver, now: Instant) -> Option<Attempt> {
        if self.ended {
            return None;
        }
        for (target, dial) in self.targets.iter_mut().enumerate() {
            match &mut dial.state {
                State::Waiting { until } if *until <= now => {
                    dial.state = State::Resolving;
                    resolver.ask(target, &dial.host, dial.port);
                }
                State::Trying { left, next, .. } if *next <= now => {
                    *next = now + STAGGER;
                    if let Some(address) = left.pop_front() {
                        return Some(Attempt { target, address });
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Whether an answer is to what a target waits for: it may have moved since it asked.
    pub(super) fn is_waiting_for(&self, answer: &Resolved) -> bool {
        self.targets.get(answer.target).is_some_and(|dial| {
            matches!(dial.state, State::Resolving)
                && (&dial.host, dial.port) == (&answer.host, answer.port)
        })
    }

    /// A target's addresses are known.
    pub(super) fn resolved(&mut self, target: usize, addresses: Vec<SocketAddr>, now: Instant) {
        let Some(dial) = self.targets.get_mut(target) else { return };
        let reason = format!("{} has no address", dial.host);
        dial.state = State::Trying { begun: Vec::new(), left: addresses.into(), next: now, reason };
    }

    /// A handshake has begun.
    pub(super) fn begun(&mut self, target: usize, session: SessionId) {
        if let Some(Dial { state: State::Trying { begun, .. }, .. }) = self.targets.get_mut(target)
        {
            begun.push(session);
        }
    }

    /// A handshake failed, or could not begin. Says why the whole try failed, if it did.
    pub(super) fn failed(
        &mut self,
        target: usize,
        session: Option<SessionId>,
        why: String,
        now: Instant,
    ) -> Option<String> {
        let dial = self.targets.get_mut(target)?;
        let State::Trying { begun, left, next, reason } = &mut dial.state else {
            // Not even an address was found; or another handshake was faster.
            return matches!(dial.state, State::Resolving).then(|| {
                dial.wait(&self.settings, now);
                why
            });
        };
        if session.is_some_and(|session| !begun.contains(&session)) {
            // It began before the target moved.
            return None;
        }
        begun.retain(|begun| Some(*begun) != session);
        *reason = why;
        *next = now;
        if !begun.is_empty() || !left.is_empty() {
            return None;
        }
        let reason = std::mem::take(reason);
        dial.wait(&self.settings, now);
        Some(reason)
    }

    /// A handshake is over. Says which others are no longer wanted; `None` if this one is not.
    pub(super) fn connected(
        &mut self,
        target: usize,
        session: SessionId,
        now: Instant,
    ) -> Option<Vec<SessionId>> {
        let dial = self.targets.get_mut(target)?;
        let State::Trying { begun, .. } = &mut dial.state else { return None };
        if !begun.contains(&session) {
            // It began before the target moved.
            return None;
        }
        let mut others = std::mem::take(begun);
        others.retain(|other| *other != session);
        dial.state = State::Up { since: now, session };
        dial.moved = dial.moved.map(|(when, _)| (when, 0));
        Some(others)
    }

    /// How it stands with each target.
    pub(super) fn states(&self, now: Instant) -> impl Iterator<Item = DialState> {
        self.targets.iter().map(move |dial| DialState {
            is_up: matches!(dial.state, State::Up { .. }),
            failures: dial.failures,
            retry_in: match dial.state {
                State::Waiting { until } => until.saturating_duration_since(now),
                _ => Duration::ZERO,
            },
        })
    }

    /// A connection is no more. Another one may have taken its place.
    pub(super) fn closed(&mut self, target: usize, closed: SessionId, now: Instant) {
        let Some(dial) = self.targets.get_mut(target) else { return };
        let State::Up { since, session } = dial.state else { return };
        if session != closed {
            return;
        }
        if LASTED <= now.saturating_duration_since(since) {
            dial.failures = 0;
        }
        dial.wait(&self.settings, now);
    }

    /// Whether a target may be followed elsewhere: not if it has been just now.
    pub(super) fn may_follow(&self, target: usize, now: Instant) -> bool {
        let has_moved = |dial: &Dial| dial.moved.is_some_and(|(when, _)| now < when + MOVE_EVERY);
        self.targets.get(target).is_some_and(|dial| !has_moved(dial))
    }

    /// A target is elsewhere from now on: it is tried there while the connection that says so lasts.
    pub(super) fn follow(&mut self, target: usize, url: &Url, now: Instant) {
        if let Some(dial) = self.targets.get_mut(target) {
            dial.go_to(url, now);
            dial.moved = Some((now, 0));
        }
    }

    /// Whether a target is not to be found where it said, after a try there has failed; it is then
    /// looked for at `home`.
    pub(super) fn gives_up_move(&mut self, target: usize, home: &Url, now: Instant) -> bool {
        let Some(dial) = self.targets.get_mut(target) else { return false };
        let Some((when, failures)) = dial.moved else { return false };
        dial.moved = Some((when, failures + 1));
        if failures + 1 < MOVED_FAILURES_MAX {
            return false;
        }
        dial.go_to(home, now);
        dial.moved = None;
        true
    }
}

impl Dial {
    fn go_to(&mut self, url: &Url, now: Instant) {
        url.host().clone_into(&mut self.host);
        self.port = url.port();
        self.state = State::Waiting { until: now };
    }

    fn wait(&mut self, settings: &config::Dial, now: Instant) {
        let most = settings
            .backoff_min
            .saturating_mul(1 << self.failures.min(20))
            .min(settings.backoff_max);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting { until: now + jitter(most) };
    }
}

/// Between half of `most` and all of it, so that those who lost one server at once do not all
/// come back at once.
fn jitter(most: Duration) -> Duration {
    let mut random = [0; 4];
    let share = match rand_bytes(&mut random) {
        Ok(()) => f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    most.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mio::{Poll, Token};

    use super::{super::wake::Wake, *};

    struct Setup {
        dialer: Dialer,
        resolver: Resolver,
        now: Instant,
        _poll: Poll,
    }

    fn setup(url: &str) -> Setup {
        let poll = Poll::new().unwrap();
        let wake = Arc::new(Wake::new(poll.registry(), Token(0)).unwrap());
        let now = Instant::now();
        let target = Target::new(url, super::super::target::Trust::Insecure).unwrap();
        let dialer = Dialer::new(&[target], config::Dial::default(), now);
        Setup { dialer, resolver: Resolver::new(wake), now, _poll: poll }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::new([127, 0, 0, 1].into(), port)
    }

    impl Setup {
        fn attempt(&mut self) -> Option<SocketAddr> {
            self.dialer.poll(&mut self.resolver, self.now).map(|attempt| attempt.address)
        }

        /// A try with these addresses has begun.
        fn trying(&mut self, ports: &[u16]) {
            assert_eq!(self.attempt(), None, "addresses must be asked for first");
            let addresses = ports.iter().map(|&port| address(port)).collect();
            self.dialer.resolved(0, addresses, self.now);
        }
    }

    #[test]
    fn an_address_is_its_own_answer() {
        let mut setup = setup("moqt://127.0.0.1:7");
        assert_eq!(setup.attempt(), None);
        let answer = setup.resolver.answer().unwrap();
        assert_eq!(answer.addresses.unwrap(), [address(7)]);
    }

    #[test]
    fn addresses_are_tried_side_by_side_and_the_first_is_kept() {
        let mut setup = setup("moqt://two.example:7");
        setup.trying(&[1, 2]);
        assert_eq!(setup.attempt(), Some(address(1)));
        setup.dialer.begun(0, SessionId(1));
        assert_eq!(setup.attempt(), None);
        setup.now += STAGGER;
        assert_eq!(setup.dialer.next(), Some(setup.now));
        assert_eq!(setup.attempt(), Some(address(2)));
        setup.dialer.begun(0, SessionId(2));
        let now = setup.now;
        assert_eq!(setup.dialer.connected(0, SessionId(2), now), Some(vec![SessionId(1)]));
        assert_eq!(setup.dialer.connected(0, SessionId(1), now), None);
        assert_eq!(setup.dialer.next(), None);
    }

    #[test]
    fn a_failed_address_makes_room_for_the_next_at_once() {
        let mut setup = setup("moqt://two.example:7");
        setup.trying(&[1, 2]);
        assert_eq!(setup.attempt(), Some(address(1)));
        setup.dialer.begun(0, SessionId(1));
        let now = setup.now;
        assert_eq!(setup.dialer.failed(0, Some(SessionId(1)), "no".to_owned(), now), None);
        assert_eq!(setup.attempt(), Some(address(2)));
        let reason = setup.dialer.failed(0, None, "no route".to_owned(), now);
        assert_eq!(reason.as_deref(), Some("no route"));
    }

    #[test]
    fn what_began_before_a_target_moved_is_not_wanted() {
        let mut setup = setup("moqt://127.0.0.1:7");
        let away: Url = "moqt://127.0.0.2:8".parse().unwrap();
        let now = setup.now;
        assert_eq!(setup.attempt(), None);
        let stale = setup.resolver.answer().unwrap();
        assert!(setup.dialer.is_waiting_for(&stale));
        setup.dialer.resolved(0, vec![address(7)], now);
        assert!(setup.attempt().is_some());
        setup.dialer.begun(0, SessionId(1));
        setup.dialer.follow(0, &away, now);
        assert_eq!(setup.attempt(), None);
        assert!(!setup.dialer.is_waiting_for(&stale));
        let fresh = setup.resolver.answer().unwrap();
        assert!(setup.dialer.is_waiting_for(&fresh));
        setup.dialer.resolved(0, fresh.addresses.unwrap(), now);
        assert_eq!(setup.dialer.connected(0, SessionId(1), now), None);
        assert_eq!(setup.dialer.failed(0, Some(SessionId(1)), "no".to_owned(), now), None);
        assert!(setup.attempt().is_some());
        setup.dialer.begun(0, SessionId(2));
        assert_eq!(setup.dialer.connected(0, SessionId(2), now), Some(Vec::new()));
    }

    #[test]
    fn waits_double_up_to_the_most_and_begin_anew_when_a_connection_lasted() {
        let mut setup = setup("moqt://one.example:7");
        for expected in [100, 200, 400, 800, 1_600, 3_000, 3_000] {
            setup.trying(&[]);
            let now = setup.now;
            assert!(setup.dialer.failed(0, None, "no".to_owned(), now).is_some());
            let wait = setup.dialer.next().unwrap() - now;
            let most = Duration::from_millis(expected);
            let state = setup.dialer.states(now).next().unwrap();
            assert_eq!((state.is_up, state.retry_in), (false, wait));
            assert!(0 < state.failures);
            assert!(most / 2 <= wait && wait <= most, "{wait:?} of {most:?}");
            setup.now += wait;
        }
        setup.trying(&[1]);
        assert!(setup.attempt().is_some());
        setup.dialer.begun(0, SessionId(1));
        let now = setup.now;
        setup.dialer.connected(0, SessionId(1), now);
        let up = setup.dialer.states(now).next().unwrap();
        assert!(up.is_up && up.retry_in.is_zero());
        setup.dialer.closed(0, SessionId(2), now + LASTED);
        assert_eq!(setup.dialer.next(), None, "another connection is no more");
        setup.dialer.closed(0, SessionId(1), now + LASTED);
        let wait = setup.dialer.next().unwrap() - (now + LASTED);
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
    }

    #[test]
    fn a_target_that_moves_is_tried_there_and_then_at_home_again() {
        let mut setup = setup("moqt://127.0.0.1:7");
        let (home, away): (Url, Url) =
            ("moqt://127.0.0.1:7".parse().unwrap(), "moqt://127.0.0.2:8".parse().unwrap());
        assert_eq!(setup.attempt(), None);
        let found = |setup: &mut Setup| setup.resolver.answer().unwrap().addresses.unwrap();
        let addresses = found(&mut setup);
        setup.dialer.resolved(0, addresses, setup.now);
        assert_eq!(setup.attempt(), Some(address(7)));
        setup.dialer.begun(0, SessionId(1));
        let now = setup.now;
        setup.dialer.connected(0, SessionId(1), now);
        assert!(setup.dialer.may_follow(0, now));
        setup.dialer.follow(0, &away, now);
        // The connection that said so ends while the new one is tried: that changes nothing.
        assert_eq!(setup.attempt(), None);
        assert_eq!(found(&mut setup)[0].to_string(), "127.0.0.2:8");
        setup.dialer.closed(0, SessionId(1), now);
        assert!(!setup.dialer.may_follow(0, now), "not from one to the other for ever");
        for failures in 1..=3 {
            setup.dialer.resolved(0, Vec::new(), setup.now);
            let now = setup.now;
            assert!(setup.dialer.failed(0, None, "no".to_owned(), now).is_some());
            assert_eq!(setup.dialer.gives_up_move(0, &home, now), failures == 3);
        }
        assert_eq!(setup.dialer.next(), Some(setup.now), "at home it is tried at once");
        assert!(!setup.dialer.gives_up_move(0, &home, setup.now));
        assert!(setup.dialer.may_follow(0, setup.now));
    }
}
