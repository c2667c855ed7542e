//! All connections of one runner thread, driven by one poll.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::{quic::Quic, target::Endpoint, web::Web};

/// The longest single wait: a connection's own timers are seldom later.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Connections, and the poll that wakes for any of them.
pub(super) struct Network {
    poll: RefCell<Poll>,
    connections: RefCell<Slab<Quic>>,
}

impl Network {
    pub(super) fn new() -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            poll: RefCell::new(Poll::new()?),
            connections: RefCell::new(Slab::new()),
        }))
    }

    /// Begins a connection; gives its key.
    pub(super) fn connect(
        &self,
        endpoint: &Endpoint,
        alpn: &[u8],
        web: Option<Web>,
    ) -> io::Result<usize> {
        let mut connections = self.connections.borrow_mut();
        let entry = connections.vacant_entry();
        let key = entry.key();
        let mut quic = Quic::new(endpoint, alpn, web)?;
        self.poll.borrow().registry().register(&mut quic.socket, Token(key), Interest::READABLE)?;
        quic.turn(Instant::now());
        entry.insert(quic);
        Ok(key)
    }

    /// Looks at, or changes, one connection.
    pub(super) fn with<T>(&self, key: usize, act: impl FnOnce(&mut Quic) -> T) -> T {
        act(&mut self.connections.borrow_mut()[key])
    }

    /// Closes and forgets a connection.
    pub(super) fn remove(&self, key: usize) {
        let mut quic = self.connections.borrow_mut().remove(key);
        quic.close(0);
        // The socket is closed with `quic`; a registry that knows it no more is as good.
        drop(self.poll.borrow().registry().deregister(&mut quic.socket));
    }

    /// Lets every connection do what it can, and waits once for more, until `deadline` at most.
    pub(super) fn turn(&self, deadline: Instant) -> io::Result<()> {
        let mut wake = deadline.min(Instant::now() + WAIT_MAX);
        for (_, quic) in self.connections.borrow_mut().iter_mut() {
            quic.turn(Instant::now());
            wake = quic.timeout().map_or(wake, |timeout| wake.min(timeout));
        }
        let wait = wake.saturating_duration_since(Instant::now());
        let mut events = Events::with_capacity(64);
        match self.poll.borrow_mut().poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        for (_, quic) in self.connections.borrow_mut().iter_mut() {
            quic.turn(Instant::now());
        }
        Ok(())
    }
}
