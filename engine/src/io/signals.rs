//! SIGTERM and SIGINT, as readiness of a pipe.

use std::{
    io::{self, Read as _},
    os::unix::net::UnixStream,
    sync::{Arc, atomic::AtomicBool},
};

use mio::{Interest, Registry, Token};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    low_level::pipe,
};

/// The first signal makes this readable; a second ends the process at once.
#[derive(Debug)]
pub(super) struct Signals {
    pipe: mio::net::UnixStream,
}

impl Signals {
    /// Catches the process's signals from now on.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal only sets what makes the second final.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            pipe::register(signal, write.try_clone()?)?;
        }
        let mut pipe = mio::net::UnixStream::from_std(read);
        registry.register(&mut pipe, token, Interest::READABLE)?;
        Ok(Self { pipe })
    }

    /// Whether a signal came.
    pub(super) fn take(&mut self) -> bool {
        let mut bytes = [0; 16];
        let mut came = false;
        while matches!(self.pipe.read(&mut bytes), Ok(length) if 0 < length) {
            came = true;
        }
        came
    }
}
