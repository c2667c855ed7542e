//! `/metrics`, `/healthz` and `/readyz` over plain HTTP, on a thread of its own.
//!
//! For machines in the house: loopback unless told otherwise. Time, size and number of
//! connections are bounded; the oldest makes room for the newest, so slow readers keep no one out.

use std::{
    collections::VecDeque, convert::Infallible, fs, net::SocketAddr, sync::Arc, thread,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime, select,
    sync::oneshot,
    task::{AbortHandle, JoinSet},
    time,
};

use super::{error::Error, log, status::Status};
use crate::metrics::{self, Process, exposition};

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request that are read.
const REQUEST_MAX: usize = 8 << 10;
/// Time that a connection has.
const LIFETIME: Duration = Duration::from_secs(5);
/// How long nobody is accepted after the system had no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; charset=utf-8";

/// The endpoint. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Admin {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Admin {
    /// Serves at `address` from now on.
    pub(super) fn new(address: SocketAddr, status: Arc<Status>) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address, source };
        let system = |source| Error::System { what: "admin endpoint", source };
        let listener = std::net::TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(system)?
        };
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("aip-admin".to_owned())
            .spawn(move || runtime.block_on(serve(listener, status, ended)))
            .map_err(system)?;
        Ok(Self { address, end: Some(end), thread: Some(thread) })
    }

    /// Where it serves, with the real port.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin endpoint panicked");
        }
    }
}

/// Accepts until it is told to end.
async fn serve(listener: TcpListener, status: Arc<Status>, mut ended: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    // Oldest first.
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            _ = &mut ended => return,
        };
        while connections.try_join_next().is_some() {}
        open.retain(|connection| !connection.is_finished());
        match accepted {
            Ok((stream, _)) => {
                if open.len() == CONNECTIONS_MAX
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(connections.spawn(converse(stream, Arc::clone(&status))));
            }
            Err(error) => {
                // Most likely no descriptors are left: one is made free, and nothing spins.
                if let Some(oldest) = open.pop_front() {
                    oldest.abort();
                }
                tracing::warn!(%error, "the admin endpoint cannot accept");
                time::sleep(PAUSE).await;
            }
        }
    }
}

/// One connection, which has one request and a time.
async fn converse(stream: TcpStream, status: Arc<Status>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &status);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LIFETIME)
        .max_buf_size(REQUEST_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match time::timeout(LIFETIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin request failed"),
        Err(_) => tracing::debug!("an admin request took too long"),
    }
}

fn respond(method: &Method, path: &str, status: &Status) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
    }
    match path {
        "/healthz" if status.stands_still() => {
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the worker stands still\n")
        }
        "/healthz" => answer(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" if status.is_draining() => {
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n")
        }
        "/readyz" if status.stands_still() => {
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the worker stands still\n")
        }
        "/readyz" => answer(StatusCode::OK, TEXT, "ready\n"),
        "/metrics" => {
            let text = exposition(status.snapshot(), process(), log::lines_dropped());
            answer(StatusCode::OK, metrics::CONTENT_TYPE, text)
        }
        _ => answer(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// What Linux says of this process; 0 for what it does not say.
pub(super) fn process() -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    };
    let open = fs::read_dir("/proc/self/fd").map(Iterator::count);
    Process {
        resident_memory: field("VmRSS") * 1_024,
        // The directory that is read is open, too.
        open_fds: open.map_or(0, |count: usize| count.saturating_sub(1) as u64),
        threads: field("Threads"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream as Client,
    };

    use super::*;
    use crate::metrics::{Service, Snapshot};

    fn admin() -> (Admin, Arc<Status>) {
        let status = Arc::new(Status::new(1));
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

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    }

    #[test]
    fn readiness_follows_the_drain_and_health_does_not() {
        let (admin, status) = admin();
        check(&admin, &get("/readyz"), "200 OK", "ready");
        status.set_draining();
        check(&admin, &get("/readyz?x"), "503 Service Unavailable", "draining");
        check(&admin, &get("/healthz"), "200 OK", "ok");
    }

    #[test]
    fn metrics_are_the_last_snapshot() {
        let (admin, status) = admin();
        let mut snapshot = Snapshot { service: Some(Service::default()), ..Snapshot::default() };
        snapshot.worker.sessions = 41;
        assert!(status.publish(0, snapshot));
        check(&admin, &get("/metrics"), "200 OK", "\naip_sessions 41\n");
        check(&admin, &get("/metrics"), "200 OK", "content-type: application/openmetrics-text");
        check(&admin, &get("/metrics"), "200 OK", "\n# EOF\n");
    }

    #[test]
    fn other_requests_are_refused() {
        let (admin, _) = admin();
        let post = "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
        check(&admin, post, "405 Method Not Allowed", "allow: GET, HEAD");
        check(&admin, &get("/"), "404 Not Found", "/metrics");
        check(&admin, "nonsense\r\n\r\n", "400 Bad Request", "");
        let long = format!("GET /healthz HTTP/1.1\r\nx: {}\r\n", "x".repeat(REQUEST_MAX * 2));
        check(&admin, &long, "431 Request Header Fields Too Large", "");
    }

    #[test]
    fn slow_clients_keep_no_one_out() {
        let (admin, _) = admin();
        let slow: Vec<_> = (0..CONNECTIONS_MAX * 2).map(|_| client(&admin)).collect();
        for mut client in &slow {
            client.write_all(b"GET /hea").unwrap_or_default();
        }
        check(&admin, &get("/healthz"), "200 OK", "ok");
    }

    #[test]
    fn a_client_that_never_ends_its_request_is_cut_off() {
        let (admin, _) = admin();
        let mut client = client(&admin);
        client.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
}
