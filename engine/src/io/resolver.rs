//! Names to addresses, off the worker's thread: the system's resolver blocks.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::{Arc, mpsc},
    thread,
};

use crossbeam::queue::SegQueue;

use super::wake::Wake;

/// A resolver's answer.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Which target asked.
    pub(super) target: usize,
    /// For which host,
    pub(super) host: String,
    /// and port.
    pub(super) port: u16,
    /// Its addresses, at least one; or why there are none.
    pub(super) addresses: Result<Vec<SocketAddr>, String>,
}

/// Asks the system. At most one question per target and place is under way, and targets do not move
/// often, which bounds the queues.
pub(super) struct Resolver {
    wake: Arc<Wake>,
    answers: Arc<SegQueue<Resolved>>,
    questions: Option<mpsc::Sender<Question>>,
}

struct Question {
    target: usize,
    host: String,
    port: u16,
}

impl Resolver {
    /// A resolver that wakes its worker. Its thread starts with the first name.
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        Self { wake, answers: Arc::new(SegQueue::new()), questions: None }
    }

    /// Asks for a target's addresses. [`Self::answer`] has them sooner or later.
    pub(super) fn ask(&mut self, target: usize, host: &str, port: u16) {
        if let Ok(address) = host.parse::<IpAddr>() {
            let addresses = Ok(vec![SocketAddr::new(address, port)]);
            self.answers.push(Resolved { target, host: host.to_owned(), port, addresses });
            return;
        }
        let question = Question { target, host: host.to_owned(), port };
        let sent = match self.thread() {
            Ok(questions) => questions.send(question).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            self.questions = None;
            let (host, addresses) = (host.to_owned(), Err(error));
            self.answers.push(Resolved { target, host, port, addresses });
        }
    }

    /// The next answer.
    pub(super) fn answer(&self) -> Option<Resolved> {
        self.answers.pop()
    }

    /// Whether there is no answer.
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn thread(&mut self) -> io::Result<&mpsc::Sender<Question>> {
        if self.questions.is_none() {
            let (sender, receiver) = mpsc::channel::<Question>();
            let (wake, answers) = (Arc::clone(&self.wake), Arc::clone(&self.answers));
            // Not joined: it ends when the sender is gone, or with the process if the system
            // still keeps it waiting.
            thread::Builder::new().name("aip-resolver".to_owned()).spawn(move || {
                for Question { target, host, port } in receiver {
                    let addresses = match (host.as_str(), port).to_socket_addrs() {
                        Ok(addresses) => match addresses.collect::<Vec<_>>() {
                            none if none.is_empty() => Err(format!("{host} has no address")),
                            addresses => Ok(addresses),
                        },
                        Err(error) => Err(format!("{host}: {error}")),
                    };
                    answers.push(Resolved { target, host, port, addresses });
                    wake.wake();
                }
            })?;
            self.questions = Some(sender);
        }
        self.questions.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
