//! Several shards that are one relay.
//!
//! Each shard is a [`Relay`] with sessions of its own, on a thread of its own. Between any two there
//! is a link: a session of MOQT like any other, whose streams go by memory, and beside it notices of
//! what each knows. A [`Shard`] is told and asked as [`Driver`] says; what goes to the others is a
//! [`Parcel`], which whoever drives it carries.

mod link;
mod parcel;
#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use aip_codec::Version;
use bytes::Bytes;

use self::link::{Heard, Link};
pub use self::parcel::{Content, Notice, Parcel, Way};
use crate::{
    metrics::Service,
    relay::{CallSpan, Command, Config, Relay},
    transport::{Action, Closed, Driver, Move, Neighbour, Peer, SessionId, Side, StreamId},
};

/// Which of a relay's shards one is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Its number; shards count from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl Place {
    /// The place of a shard that is a relay alone.
    pub const ALONE: Self = Self { index: 0, count: 1 };
}

/// One shard of a relay.
#[derive(Debug)]
pub struct Shard {
    relay: Relay,
    place: Place,
    /// Whether shard 0 dials other relays.
    dials: bool,
    /// By shard; none to itself, nor before the beginning.
    links: Vec<Option<Link>>,
    links_lost: u64,
    /// When it was told something last.
    clock: Option<Instant>,
}

impl Shard {
    /// A shard without sessions. `config` is of the whole relay; `dials` says whether shard 0 dials
    /// other relays.
    pub fn new(config: &Config, place: Place, dials: bool) -> Self {
        let mut config = config.share(place.count);
        // No two shards make the same spans.
        config.trace_seed =
            config.trace_seed.map(|seed| seed ^ (place.index as u64).rotate_right(8));
        Self {
            relay: Relay::new(config),
            place,
            dials,
            links: (0..place.count).map(|_| None).collect(),
            links_lost: 0,
            clock: None,
        }
    }

    /// The relay that it is by itself.
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// The relay, that is told something now.
    const fn told(&mut self, now: Instant) -> &mut Relay {
        self.clock = Some(now);
        &mut self.relay
    }

    fn open_link(&mut self, other: usize, epoch: u32, now: Instant) {
        // Numbers that no connection has.
        let number = u64::from(epoch) * self.place.count as u64 + other as u64;
        let session = SessionId(u64::MAX - number);
        let side = if self.place.index < other { Side::Client } else { Side::Server };
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut peer = Peer::new(side, Version::Draft22, address);
        peer.shard = Some(Neighbour { index: other, dials: self.dials && other == 0 });
        self.links[other] = Some(Link::new(session, epoch, side));
        self.relay.handle_connected(session, peer, now);
    }

    /// Begins a link anew; what was asked by the old one is lost, and asked again.
    fn reopen_link(&mut self, other: usize, now: Instant) {
        let Some(link) = self.links[other].take() else { return };
        self.links_lost += 1;
        self.relay.handle_closed(link.session, Closed::Locally, now);
        self.open_link(other, link.epoch + 1, now);
    }

    /// Does what the session with another shard wants, and tells it what its link has heard, until
    /// there is neither.
    fn attend(&mut self, other: usize, now: Instant) {
        while let Some(link) = self.links.get_mut(other).and_then(Option::as_mut) {
            let session = link.session;
            // What it wants may hold back what is heard, or let it be heard.
            while let Some((_, action)) = self.relay.poll_urgent_action(session) {
                link.execute(action);
            }
            let Some(heard) = link.hear() else { return };
            match heard {
                Heard::Stream { stream, bytes, fin } => {
                    self.relay.handle_stream(session, stream, bytes, fin, now);
                }
                Heard::Reset { stream, code } => {
                    self.relay.handle_reset(session, stream, code, now);
                }
                Heard::Stop { stream, code } => self.relay.handle_stop(session, stream, code, now),
                Heard::Datagram { bytes } => self.relay.handle_datagram(session, bytes, now),
                Heard::Sent { stream, length } => {
                    self.relay.handle_sent(session, stream, length, now);
                }
            }
        }
    }
}

impl Driver for Shard {
    type Command = Command;

    fn handle_begin(&mut self, now: Instant) {
        for other in 0..self.place.count {
            if other != self.place.index {
                self.open_link(other, 0, now);
            }
        }
    }

    fn handle_connected(&mut self, session: SessionId, peer: Peer, now: Instant) {
        self.told(now).handle_connected(session, peer, now);
    }

    fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.told(now).handle_stream(session, stream, bytes, fin, now);
    }

    fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.told(now).handle_reset(session, stream, code, now);
    }

    fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.told(now).handle_stop(session, stream, code, now);
    }

    fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant) {
        self.told(now).handle_datagram(session, bytes, now);
    }

    fn handle_sent(&mut self, session: SessionId, stream: StreamId, length: usize, now: Instant) {
        self.told(now).handle_sent(session, stream, length, now);
    }

    fn handle_silence(&mut self, session: SessionId, is_silent: bool, now: Instant) {
        self.told(now).handle_silence(session, is_silent, now);
    }

    fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant) {
        self.told(now).handle_closed(session, closed, now);
    }

    fn handle_unreachable(&mut self, target: usize, reason: &str, now: Instant) {
        self.told(now).handle_unreachable(target, reason, now);
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        self.told(now).handle_command(command, now);
    }

    fn handle_drain(&mut self, now: Instant) {
        self.told(now).handle_drain(now);
    }

    fn is_drained(&self) -> bool {
        self.relay.is_drained()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.told(now).handle_timeout(now);
    }

    fn handle_time_lost(&mut self, lost: Duration, now: Instant) {
        self.told(now).handle_time_lost(lost, now);
    }

    fn handle_shortage(&mut self, is_short: bool, now: Instant) {
        self.told(now).handle_shortage(is_short, now);
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        loop {
            let (session, action) = self.relay.poll_action()?;
            let of_link =
                |link: &Option<Link>| link.as_ref().is_some_and(|it| it.session == session);
            let Some(other) = self.links.iter().position(of_link) else {
                return Some((session, action));
            };
            if let Some(link) = &mut self.links[other] {
                link.execute(action);
            }
            if let Some(now) = self.clock {
                self.attend(other, now);
            }
        }
    }

    fn poll_urgent_action(&mut self, session: SessionId) -> Option<(SessionId, Action)> {
        self.relay.poll_urgent_action(session)
    }

    fn poll_move(&mut self) -> Option<Move> {
        self.relay.poll_move()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.relay.poll_timeout()
    }

    fn handle_parcel(&mut self, from: usize, parcel: Parcel, now: Instant) {
        let Some(link) = self.links.get_mut(from).and_then(Option::as_mut) else { return };
        if parcel.epoch != link.epoch {
            return;
        }
        let session = link.session;
        self.clock = Some(now);
        match parcel.content {
            Content::Close => self.reopen_link(from, now),
            Content::Notice(notice) => {
                self.relay.handle_notice(session, *notice, now);
            }
            content => link.receive(content),
        }
        self.attend(from, now);
    }

    fn poll_parcel(&mut self, to: usize, now: Instant) -> Option<Parcel> {
        self.attend(to, now);
        let link = self.links.get_mut(to)?.as_mut()?;
        let (epoch, session) = (link.epoch, link.session);
        if link.closed {
            self.reopen_link(to, now);
            return Some(Parcel { epoch, content: Content::Close });
        }
        let notice = |notice| Content::Notice(Box::new(notice));
        let content = self.relay.poll_notice(session).map(notice);
        let content = content.or_else(|| link.poll_aside());
        let content = content.or_else(|| self.relay.poll_late_notice(session).map(notice));
        let content = content.or_else(|| link.poll_stream())?;
        self.attend(to, now);
        Some(Parcel { epoch, content })
    }

    fn take_spans(&mut self) -> (Vec<CallSpan>, u64) {
        self.relay.take_spans()
    }

    fn poll_metrics(&self) -> Option<Service> {
        let mut service = self.relay.metrics();
        let links = self.links.iter().flatten();
        service.counters.worker_datagrams_dropped_total =
            links.map(|link| link.datagrams_dropped).sum();
        service.counters.worker_links_lost_total = self.links_lost;
        Some(service)
    }
}
