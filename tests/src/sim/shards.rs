//! A relay of several shards, as one node: what they hand each other goes through queues, and is heard
//! later than it was handed over, in an order that a seed makes; but, as by workers, before what comes
//! from outside after it.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use aip_codec::moqt::name::TrackNamespace;
use aip_engine::{
    relay::{Config, Load, Relay},
    shard::{Parcel, Place, Shard},
    transport::{Action, Closed, Driver, Peer, SessionId, StreamId},
};
use bytes::Bytes;

use super::{node::Node, random::Random};

/// How shards hand each other parcels.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many parcels may be on their way from one shard to another: drawn anew each time.
    pub room: (u64, u64),
    /// How long a shard that has nothing else to do may take to hear of one, in microseconds.
    pub delay: u64,
}

impl Pace {
    /// Always short of room, and sooner than anything from outside.
    pub const QUICK: Self = Self { room: (1, 6), delay: 5 };
    /// Workers that sleep, or do long turns.
    pub const SLOW: Self = Self { room: (1_000, 1_000), delay: 10_000 };
}

/// A relay of several shards.
#[derive(Debug)]
pub struct Shards {
    shards: Vec<Shard>,
    homes: BTreeMap<SessionId, usize>,
    next_home: usize,
    queues: BTreeMap<(usize, usize), VecDeque<(Instant, Parcel)>>,
    /// When something was last told; none before anything was.
    now: Option<Instant>,
    /// Whether something was told since it was last asked what it wants.
    told: bool,
    random: Random,
    pace: Pace,
    begun: bool,
    /// Parcels handed over so far.
    pub parcels: u64,
}

impl Shards {
    /// A relay of so many shards. Sessions come to them in turn; those that it dials to the first.
    pub fn new(config: &Config, count: usize) -> Self {
        let place = |index| Place { index, count };
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        Self {
            shards: (0..count).map(|index| Shard::new(config, place(index), true)).collect(),
            homes: BTreeMap::new(),
            next_home: 0,
            queues: pairs
                .filter(|(from, to)| from != to)
                .map(|pair| (pair, VecDeque::new()))
                .collect(),
            now: None,
            told: false,
            random: Random::new(count as u64),
            pace: Pace::QUICK,
            begun: false,
            parcels: 0,
        }
    }

    /// Changes how its shards hand each other parcels, and in which order these come.
    pub fn set_pace(&mut self, pace: Pace, seed: u64) {
        self.pace = pace;
        self.random = Random::new(seed);
    }

    /// Chooses the shard that the next session comes to, counted round and round; those after it come
    /// to the next ones in turn.
    pub const fn send_next_to(&mut self, shard: usize) {
        self.next_home = shard;
    }

    /// The relay that each shard is.
    pub fn relays(&self) -> impl Iterator<Item = &Relay> {
        self.shards.iter().map(Shard::relay)
    }

    /// Sessions of all shards, tracks and published namespaces of the one that knows most.
    pub fn counts(&self) -> (usize, usize, usize) {
        let links = self.shards.len() - 1;
        let each = self.relays().map(Relay::counts);
        each.fold((0, 0, 0), |sum, (sessions, tracks, namespaces)| {
            (sum.0 + sessions - links, sum.1.max(tracks), sum.2.max(namespaces))
        })
    }

    /// Bytes cached by the shard that caches most.
    pub fn cached_bytes(&self) -> usize {
        self.relays().map(Relay::cached_bytes).max().unwrap_or_default()
    }

    /// Groups cached by the shard that caches most.
    pub fn cached_groups(&self) -> usize {
        self.relays().map(Relay::cached_groups).max().unwrap_or_default()
    }

    /// What waits for all shards, and what was given up by all.
    pub fn load(&self) -> Load {
        let mut sum = Load::default();
        for load in self.relays().map(Relay::load) {
            sum.queued += load.queued;
            sum.subscriptions_behind_total += load.subscriptions_behind_total;
            sum.answers_given_up_total += load.answers_given_up_total;
            sum.requests_refused_total += load.requests_refused_total;
        }
        sum
    }

    /// Whether every shard's accounts add up.
    pub fn accounts_add_up(&self) -> bool {
        self.relays().all(Relay::accounts_add_up)
    }

    /// The namespaces that are published, as every shard knows them.
    ///
    /// # Panics
    /// If one knows others.
    pub fn namespaces(&self) -> Vec<TrackNamespace> {
        let known: BTreeSet<Vec<TrackNamespace>> = self.relays().map(Relay::namespaces).collect();
        assert_eq!(known.len(), 1, "shards know different namespaces: {known:?}");
        known.into_iter().flatten().collect()
    }

    /// What contradicts itself in a shard.
    pub fn contradiction(&self) -> Option<String> {
        self.relays().find_map(Relay::contradiction)
    }

    /// Whether a shard still has to do with a track.
    pub fn has_tracks(&self) -> bool {
        self.relays().any(|relay| 0 < relay.counts().1)
    }

    /// The process was stopped for so long.
    pub fn handle_time_lost(&mut self, lost: Duration, now: Instant) {
        for shard in &mut self.shards {
            shard.handle_time_lost(lost, now);
        }
    }

    /// Memory is short in the process, or no longer.
    pub fn handle_shortage(&mut self, is_short: bool, now: Instant) {
        for shard in &mut self.shards {
            shard.handle_shortage(is_short, now);
        }
    }

    /// Targets that say that they are elsewhere, and where.
    pub fn moves(&mut self) -> Vec<(usize, Bytes)> {
        let moves = std::iter::from_fn(|| self.shards.iter_mut().find_map(Driver::poll_move));
        moves.map(|it| (it.target, it.uri)).collect()
    }

    /// Begins to end.
    pub fn handle_drain(&mut self, now: Instant) {
        for index in 0..self.shards.len() {
            self.shards[index].handle_drain(now);
        }
        self.now = Some(now);
    }

    /// Whether the drain is over.
    pub fn is_drained(&self) -> bool {
        self.shards.iter().all(Driver::is_drained)
    }

    fn home(&mut self, session: SessionId, now: Instant) -> &mut Shard {
        let home = self.homes.get(&session).copied().unwrap_or_default();
        (self.now, self.told) = (Some(now), true);
        &mut self.shards[home]
    }

    /// What shards have for each other; whether there was anything.
    fn hand_over(&mut self, now: Instant) -> bool {
        let mut moved = false;
        for (&(from, to), queue) in &mut self.queues {
            let room = self.random.between(self.pace.room.0, self.pace.room.1);
            while (queue.len() as u64) < room
                && let Some(parcel) = self.shards[from].poll_parcel(to, now)
            {
                let delay = Duration::from_micros(self.random.between(0, self.pace.delay));
                let after = queue.back().map_or(now, |(when, _)| *when);
                queue.push_back((after.max(now + delay), parcel));
                self.parcels += 1;
                moved = true;
            }
        }
        moved
    }

    /// Delivers one of the parcels that satisfy `test`, which is told where they go and when they are
    /// due; false if there is none.
    fn deliver(&mut self, now: Instant, test: impl Fn(usize, Instant) -> bool) -> bool {
        // Nothing is allocated here, so that what shards allocate can be counted.
        let is_next = |(pair, queue): &(&(usize, usize), &mut VecDeque<(Instant, Parcel)>)| {
            queue.front().is_some_and(|(when, _)| test(pair.1, *when))
        };
        let count = self.queues.iter_mut().filter(is_next).count();
        if count == 0 {
            return false;
        }
        let chosen = self.random.index(count);
        let Some((&(from, to), queue)) = self.queues.iter_mut().filter(is_next).nth(chosen) else {
            return false;
        };
        if let Some((_, parcel)) = queue.pop_front() {
            self.shards[to].handle_parcel(from, parcel, now);
        }
        true
    }
}

impl Node for Shards {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    /// Shards hear all that is on its way to them: that of the session, or those whose time has come.
    fn handle_turn(&mut self, session: Option<SessionId>, now: Instant) {
        for shard in 0..self.shards.len() {
            let is_next = match session {
                Some(session) => self.homes.get(&session) == Some(&shard),
                None => self.shards[shard].poll_timeout().is_some_and(|when| when <= now),
            };
            while is_next && self.deliver(now, |to, _| to == shard) {}
        }
        self.now = Some(now);
    }

    fn handle_connected(&mut self, session: SessionId, peer: Peer, now: Instant) {
        if !std::mem::replace(&mut self.begun, true) {
            for shard in &mut self.shards {
                shard.handle_begin(now);
            }
        }
        let home = if peer.target.is_some() {
            0
        } else {
            self.next_home += 1;
            (self.next_home - 1) % self.shards.len()
        };
        self.homes.insert(session, home);
        self.home(session, now).handle_connected(session, peer, now);
    }

    fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.home(session, now).handle_stream(session, stream, bytes, fin, now);
    }

    fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.home(session, now).handle_reset(session, stream, code, now);
    }

    fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.home(session, now).handle_stop(session, stream, code, now);
    }

    fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant) {
        self.home(session, now).handle_datagram(session, bytes, now);
    }

    fn handle_sent(&mut self, session: SessionId, stream: StreamId, length: usize, now: Instant) {
        self.home(session, now).handle_sent(session, stream, length, now);
    }

    fn handle_silence(&mut self, session: SessionId, is_silent: bool, now: Instant) {
        self.home(session, now).handle_silence(session, is_silent, now);
    }

    fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant) {
        self.home(session, now).handle_closed(session, closed, now);
        self.homes.remove(&session);
    }

    fn handle_timeout(&mut self, now: Instant) {
        for shard in &mut self.shards {
            shard.handle_timeout(now);
        }
        self.now = Some(now);
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        let now = self.now?;
        // A worker hands over before or after it does what its shard wants.
        if std::mem::take(&mut self.told) && self.random.index(2) == 0 {
            self.hand_over(now);
        }
        loop {
            let wanted = self.shards.iter_mut().find_map(Driver::poll_action);
            if wanted.is_some() {
                return wanted;
            }
            let handed = self.hand_over(now);
            if !self.deliver(now, |_, when| when <= now) && !handed {
                return None;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let fronts = self.queues.values().filter_map(|queue| queue.front());
        let parcels = fronts.map(|(when, _)| *when).min();
        self.shards.iter().filter_map(Driver::poll_timeout).chain(parcels).min()
    }
}
