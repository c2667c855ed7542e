//! A client that speaks MOQT on a connection that never sleeps.

use std::{io, net::SocketAddr};

use aip_codec::Version;
use aip_engine::{
    session::{Config, Event, Session},
    transport::{Action, Side, StreamId},
};

use super::end::{End, now, until};

/// See the module.
pub(super) struct Speaker {
    end: End,
    pub(super) session: Session,
}

impl Speaker {
    /// A client whose session is established.
    pub(super) fn connect(server: SocketAddr) -> io::Result<Self> {
        let mut end = End::connect(server)?;
        until(|| {
            end.turn()?;
            Ok(end.quic.is_established())
        })?;
        let protocol = end.quic.application_proto();
        let version = Version::PREFERENCE.into_iter().find(|it| it.alpn().as_bytes() == protocol);
        let version = version.ok_or(io::ErrorKind::Unsupported)?;
        let session = Session::new(Config::default(), Side::Client, version, now());
        let mut speaker = Self { end, session };
        until(|| {
            speaker.turn()?;
            Ok(speaker.session.is_established())
        })?;
        Ok(speaker)
    }

    /// Takes what has come, and sends what there is.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        self.end.turn()?;
        let mut at = None;
        while let Some((stream, bytes, fin)) = self.end.read() {
            let now = *at.get_or_insert_with(now);
            self.session.handle_stream(StreamId(stream), bytes, fin, now);
        }
        self.flush()
    }

    /// Sends what the session has to say.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut said = false;
        while let Some(action) = self.session.poll_action() {
            if let Action::Send { stream, bytes, fin } = action {
                let (length, clock) = (bytes.len(), self.session.clock());
                self.end.send(stream.0, bytes, fin);
                self.session.handle_sent(stream, length, clock);
                said = true;
            }
        }
        if said { self.end.flush() } else { Ok(()) }
    }

    /// Waits until the session has something to tell that is wanted.
    pub(super) fn expect<T>(
        &mut self,
        others: &mut [&mut Self],
        mut wanted: impl FnMut(Event) -> Option<T>,
    ) -> io::Result<T> {
        let mut found = None;
        until(|| {
            for other in others.iter_mut() {
                other.turn()?;
            }
            self.turn()?;
            while let Some(event) = self.session.poll_event() {
                found = wanted(event);
                if found.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        found.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}
