//! The subscribers as members of a run: who connects, who waits for what, who comes and goes.

use std::time::{Duration, Instant};

use aip_engine::{
    session,
    transport::{Connect, Peer},
};

use super::{CONNECTING_MAX, FanOut, PUBLISHER, Stage, nanoseconds};
use crate::relay::{
    churn::Step,
    publisher::Announcement,
    subscriber::{News, Subscriber},
};

/// A subscriber, in whatever state.
pub(super) enum Member {
    /// It waits to be connected, from then on.
    Idle { due: Instant },
    /// Its handshake began then.
    Connecting { since: Instant },
    /// It has a session. If it waits for an answer, since when, and for which.
    Up { subscriber: Box<Subscriber>, waits: Option<(Wait, Instant)> },
}

/// An answer that a member waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    Setup,
    SubscribeOk,
}

impl FanOut {
    /// Counts an error.
    pub(super) fn error(&mut self, kind: &str) {
        self.outcome.tally.counts.error(kind);
    }

    /// Moves a session's actions to where the worker takes them.
    pub(super) fn take_actions(&mut self, key: u64) {
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

    pub(super) fn member(&mut self, key: u64) -> Option<&mut Member> {
        self.members.get_mut(usize::try_from(key).ok()?)
    }

    /// Acts on what a session has to tell.
    pub(super) fn attend(&mut self, key: u64, now: Instant) {
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

    /// Begins connections, at their pace.
    pub(super) fn connect(&mut self, now: Instant) {
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

    /// Lets subscribers come and go.
    pub(super) fn churn(&mut self, now: Instant) {
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

    pub(super) fn session_config(peer: &Peer) -> session::Config {
        let mut config = session::Config::default();
        config.authority.clone_from(&peer.authority);
        config.path.clone_from(&peer.path);
        // A bare MOQT client: it makes no calls.
        config.aip = None;
        config
    }
}
