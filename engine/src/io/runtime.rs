//! From a configuration to running workers.

use std::{net::SocketAddr, thread};

use super::{config::Config, error::Error, mailbox::Mailbox};
use crate::transport::Driver;

/// A worker on a thread of its own. Dropping this lets the worker run on.
#[derive(Debug)]
pub struct Handle<C> {
    mailbox: Mailbox<C>,
    addresses: Vec<SocketAddr>,
    certificate_sha256: Option<[u8; 32]>,
    thread: thread::JoinHandle<Result<(), Error>>,
}

impl<C> Handle<C> {
    /// The way to the worker's driver.
    pub fn mailbox(&self) -> Mailbox<C> {
        self.mailbox.clone()
    }

    /// The addresses listened on, with their real ports, in the order of [`Config::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// SHA-256 of the certificate shown, if anything is listened on: what clients may pin.
    pub const fn certificate_sha256(&self) -> Option<[u8; 32]> {
        self.certificate_sha256
    }

    /// Tells the worker to drain ([`Driver::handle_drain`]) and then to end. Does not wait.
    pub fn shutdown(&self) {
        self.mailbox.drain();
    }

    /// Waits until the worker has ended.
    ///
    /// # Errors
    /// What ended it, unless it was told to end.
    pub fn join(self) -> Result<(), Error> {
        self.thread.join().unwrap_or(Err(Error::Panicked))
    }
}

/// Runs the driver that `driver` makes on a thread of its own.
///
/// `driver` is called once, on that thread; drivers need not be [`Send`].
///
/// # Errors
/// Whatever is wrong with `config`, and what the system refuses: nothing then runs.
pub fn spawn<D, F>(config: Config, driver: F) -> Result<Handle<D::Command>, Error>
where
    D: Driver,
    D::Command: 'static,
    F: FnOnce() -> D + Send + 'static,
{
    let (_, _) = (config, driver);
    Err(Error::Config("not built yet".to_owned()))
}

/// Runs a driver on this thread until it has drained.
///
/// `ready` is called once, when packets to the listed addresses are received.
///
/// # Errors
/// Whatever is wrong with `config`, and what the system refuses.
pub fn run<D: Driver>(
    config: Config,
    driver: D,
    ready: impl FnOnce(&[SocketAddr]),
) -> Result<(), Error> {
    let (_, _, _) = (config, driver, ready);
    Err(Error::Config("not built yet".to_owned()))
}
