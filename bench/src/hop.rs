//! A message from worker to worker and back: two real workers that do nothing else.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use aip_engine::{
    io::{self, Config, Error, Handle, Target, Trust},
    shard::{Content, Parcel, Place},
    transport::{Action, Closed, Driver, Peer, SessionId, StreamId},
};
use bytes::Bytes;

/// How long a worker is awake before what its driver waits for: for ever, as far as a bench goes.
const AWAKE: Duration = Duration::from_secs(3_600);

/// Two workers that hand a message to and fro.
#[derive(Debug)]
pub struct Hop {
    handle: Handle<Pass>,
    passed: Receiver<Duration>,
}

/// To hand the message over so many times.
#[derive(Clone, Copy, Debug)]
pub struct Pass(u64);

impl Hop {
    /// Workers that stay awake between messages, or sleep.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn new(awake: bool) -> Result<Self, Error> {
        // Dialled only if the driver asks, which it does not.
        let target = Target::new("moqt://127.0.0.1:9", Some(Trust::Insecure))?;
        let mut config = Config::client(vec![target]).with_workers(2);
        config.dial.on_request = true;
        config.spin = if awake { AWAKE } else { Duration::ZERO };
        let (tell, passed) = channel();
        let handle = io::spawn_workers(config, move |place| Player::new(place, tell.clone()))?;
        Ok(Self { handle, passed })
    }

    /// How long it takes to hand the message over `times` times, there and back.
    ///
    /// # Panics
    /// If a worker has ended: none does before this is dropped.
    pub fn pass(&self, times: u64) -> Duration {
        self.handle.mailbox().send(Pass(times)).expect("the worker takes commands");
        self.passed.recv().expect("the worker answers")
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// What one of the workers does.
struct Player {
    place: Place,
    tell: Sender<Duration>,
    began: Option<Instant>,
    left: u64,
    holds: bool,
    now: Option<Instant>,
}

impl Player {
    const fn new(place: Place, tell: Sender<Duration>) -> Self {
        Self { place, tell, began: None, left: 0, holds: false, now: None }
    }
}

impl Driver for Player {
    type Command = Pass;

    fn handle_begin(&mut self, now: Instant) {
        self.now = Some(now);
    }

    fn handle_connected(&mut self, _: SessionId, _: Peer, _: Instant) {}
    fn handle_stream(&mut self, _: SessionId, _: StreamId, _: Bytes, _: bool, _: Instant) {}
    fn handle_reset(&mut self, _: SessionId, _: StreamId, _: u64, _: Instant) {}
    fn handle_stop(&mut self, _: SessionId, _: StreamId, _: u64, _: Instant) {}
    fn handle_datagram(&mut self, _: SessionId, _: Bytes, _: Instant) {}
    fn handle_sent(&mut self, _: SessionId, _: StreamId, _: usize, _: Instant) {}
    fn handle_closed(&mut self, _: SessionId, _: Closed, _: Instant) {}
    fn handle_unreachable(&mut self, _: usize, _: &str, _: Instant) {}

    fn handle_command(&mut self, Pass(times): Pass, now: Instant) {
        self.began = Some(now);
        self.left = times;
        self.holds = true;
    }

    fn handle_drain(&mut self, _: Instant) {}

    fn is_drained(&self) -> bool {
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = Some(now);
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        // Far away: but a worker that is to stay awake waits for it awake.
        self.now.map(|now| now + AWAKE / 2)
    }

    fn handle_parcel(&mut self, _: usize, _: Parcel, now: Instant) {
        if self.place.index == 0 {
            self.left -= 1;
            if self.left == 0 {
                let began = self.began.take().unwrap_or(now);
                // Nobody listens any more once the bench is over.
                self.tell.send(now - began).ok();
                return;
            }
        }
        self.holds = true;
    }

    fn poll_parcel(&mut self, _: usize, _: Instant) -> Option<Parcel> {
        let content = Content::Datagram { bytes: Bytes::from_static(b"hop") };
        std::mem::take(&mut self.holds).then_some(Parcel { epoch: 0, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_there_and_back() {
        for awake in [false, true] {
            let hop = Hop::new(awake).unwrap();
            assert!(Duration::ZERO < hop.pass(100));
        }
    }
}
