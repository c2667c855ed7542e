//! `/health` and `/metrics` over plain HTTP, on a thread of its own.
//!
//! For machines in the house: loopback unless told otherwise. Time, size and number of
//! connections are bounded; the oldest makes room for the newest, so slow readers keep no one out.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{TcpListener, TcpStream},
};

use super::{clock::Clock, error::Error, status::Status};

const LISTENER: Token = Token(0);
const END: Token = Token(1);
const FIRST_CONNECTION: usize = 2;
/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request that are read.
const REQUEST_MAX: usize = 8 << 10;
/// Time that a connection has.
const LIFETIME: Duration = Duration::from_secs(5);

/// The endpoint. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Admin {
    address: SocketAddr,
    end: Waker,
    thread: Option<thread::JoinHandle<()>>,
}

impl Admin {
    /// Serves at `address` from now on.
    pub(super) fn new(address: SocketAddr, status: Arc<Status>) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address, source };
        let mut listener = TcpListener::bind(address).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let system = |source| Error::System { what: "admin endpoint", source };
        let poll = Poll::new().map_err(system)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(system)?;
        let end = Waker::new(poll.registry(), END).map_err(system)?;
        let server = Server {
            poll,
            listener,
            status,
            clock: Clock::new(),
            connections: VecDeque::new(),
            next_token: FIRST_CONNECTION,
        };
        let thread = thread::Builder::new()
            .name("aip-admin".to_owned())
            .spawn(move || server.run())
            .map_err(system)?;
        Ok(Self { address, end, thread: Some(thread) })
    }

    /// Where it serves, with the real port.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let woken = self.end.wake();
        if let Some(thread) = self.thread.take()
            && woken.is_ok()
            && thread.join().is_err()
        {
            tracing::error!("the admin endpoint panicked");
        }
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    status: Arc<Status>,
    clock: Clock,
    /// Oldest first.
    connections: VecDeque<Connection>,
    next_token: usize,
}

struct Connection {
    token: Token,
    stream: TcpStream,
    deadline: Instant,
    request: Vec<u8>,
    /// What is still to be said; `None` until the request is whole.
    response: Option<VecDeque<u8>>,
}

impl Server {
    fn run(mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            let now = self.clock.tick();
            let timeout =
                self.connections.front().map(|oldest| oldest.deadline - now.min(oldest.deadline));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "the admin endpoint ends");
                    return;
                }
            }
            let now = self.clock.tick();
            for event in &events {
                match event.token() {
                    END => return,
                    LISTENER => self.accept(now),
                    token => self.serve(token),
                }
            }
            while self.connections.front().is_some_and(|oldest| oldest.deadline <= now) {
                self.connections.pop_front();
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    let token = Token(self.next_token);
                    self.next_token = self.next_token.wrapping_add(1).max(FIRST_CONNECTION);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    if self.poll.registry().register(&mut stream, token, interest).is_err() {
                        continue;
                    }
                    if self.connections.len() == CONNECTIONS_MAX {
                        self.connections.pop_front();
                    }
                    let deadline = now + LIFETIME;
                    let (request, response) = (Vec::new(), None);
                    let connection = Connection { token, stream, deadline, request, response };
                    self.connections.push_back(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        // Most likely no descriptors are left. Those who wait try again.
                        self.connections.pop_front();
                        tracing::warn!(%error, "the admin endpoint cannot accept");
                    }
                    return;
                }
            }
        }
    }

    fn serve(&mut self, token: Token) {
        let Some(index) = self.connections.iter().position(|it| it.token == token) else { return };
        if !self.connections[index].advance(&self.status) {
            self.connections.remove(index);
        }
    }
}

impl Connection {
    /// Reads and writes what can be; says whether there is more to come.
    fn advance(&mut self, status: &Status) -> bool {
        if self.response.is_none() && !self.read(status) {
            return false;
        }
        let Some(response) = &mut self.response else { return true };
        while !response.is_empty() {
            let (front, _) = response.as_slices();
            match self.stream.write(front) {
                Ok(0) => return false,
                Ok(length) => drop(response.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        // What the client still sends is read, so that closing does not reset what it reads.
        self.stream.shutdown(std::net::Shutdown::Write).ok();
        let mut rest = [0; 1_024];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Reads the request as far as it is there; says whether the connection is of use.
    fn read(&mut self, status: &Status) -> bool {
        let mut bytes = [0; 1_024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(length) => self.request.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            if self.request.windows(4).any(|end| end == b"\r\n\r\n") {
                self.response = Some(respond(&self.request, status).into_bytes().into());
                return true;
            }
            if REQUEST_MAX < self.request.len() {
                self.response = Some(
                    answer("431 Request Header Fields Too Large", "text/plain", "too large\n")
                        .into_bytes()
                        .into(),
                );
                return true;
            }
        }
    }
}

/// The response to a whole request.
fn respond(request: &[u8], status: &Status) -> String {
    const TEXT: &str = "text/plain; charset=utf-8";
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    if method != Some(b"GET") {
        return answer("405 Method Not Allowed", TEXT, "only GET\n");
    }
    match target.split(|&byte| byte == b'?').next().unwrap_or_default() {
        b"/health" if status.is_draining() => answer("503 Service Unavailable", TEXT, "draining\n"),
        b"/health" => answer("200 OK", TEXT, "ready\n"),
        b"/metrics" => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            answer("200 OK", kind, &status.counters().exposition())
        }
        _ => answer("404 Not Found", TEXT, "there are /health and /metrics\n"),
    }
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;

    use super::*;

    fn admin() -> (Admin, Arc<Status>) {
        let status = Arc::new(Status::default());
        (Admin::new("127.0.0.1:0".parse().unwrap(), Arc::clone(&status)).unwrap(), status)
    }

    fn client(admin: &Admin) -> Client {
        let client = Client::connect(admin.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    #[track_caller]
    fn check(admin: &Admin, request: &str, first_line: &str, body: &str) {
        let mut client = client(admin);
        client.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {first_line}\r\n")), "{response}");
        assert!(response.contains(body), "{response}");
    }

    #[test]
    fn health_follows_the_drain() {
        let (admin, status) = admin();
        check(&admin, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "ready");
        status.set_draining();
        let request = "GET /health?x HTTP/1.1\r\n\r\n";
        check(&admin, request, "503 Service Unavailable", "draining");
    }

    #[test]
    fn metrics_are_the_last_snapshot() {
        let (admin, status) = admin();
        assert!(status.publish(&crate::metrics::Counters { sessions: 41, ..Default::default() }));
        check(&admin, "GET /metrics HTTP/1.1\r\n\r\n", "200 OK", "\naip_sessions 41\n");
    }

    #[test]
    fn other_requests_are_refused() {
        let (admin, _) = admin();
        check(&admin, "POST /health HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "");
        check(&admin, "GET / HTTP/1.1\r\n\r\n", "404 Not Found", "/metrics");
        check(&admin, "\r\n\r\n", "405 Method Not Allowed", "");
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(REQUEST_MAX));
        check(&admin, &long, "431 Request Header Fields Too Large", "");
    }

    #[test]
    fn slow_clients_keep_no_one_out() {
        let (admin, _) = admin();
        let slow: Vec<_> = (0..CONNECTIONS_MAX * 2).map(|_| client(&admin)).collect();
        for mut client in &slow {
            client.write_all(b"GET /hea").unwrap_or_default();
        }
        check(&admin, "GET /health HTTP/1.1\r\n\r\n", "200 OK", "ready");
    }
}
