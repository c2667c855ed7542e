//! A relay, edges and agents on this machine, ended with the test.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use aip_engine::{
    io::{self, Handle, Identity, Target, Trust},
    relay,
    shard::Shard,
};
use aip_gateway::{
    backend::{Backend, News, http, stdio},
    connect::{self, Connector},
    frontend,
    link::{self, Envelope, Link, Served},
    name::ServerName,
    offer::Offer,
    serve::{self, Counts},
};
use serde_json::{Value, json};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf,
        WriteHalf,
    },
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A relay of our own.
pub(crate) struct Relay {
    handle: Option<Handle<relay::Command>>,
    pub(crate) address: SocketAddr,
    pub(crate) target: Target,
}

impl Relay {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    /// A relay that knows no CALL.
    pub(crate) fn start_plain() -> Self {
        let mut config = relay::Config::default();
        config.session.aip = None;
        Self::start_with("127.0.0.1:0".parse().unwrap(), config)
    }

    /// The same at this address.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::start_with(address, relay::Config::default())
    }

    fn start_with(address: SocketAddr, relay: relay::Config) -> Self {
        aip_gateway::log::start();
        let config = io::Config::server(vec![address], Identity::Development)
            .with_drain_timeout(Duration::from_millis(100))
            .with_workers(3);
        let shard = move |place| Shard::new(&relay, place, false);
        let handle = io::spawn_workers(config, shard).unwrap();
        let address = handle.addresses()[0];
        let url = format!("moqt://{address}");
        let trust = Trust::CertificateSha256(vec![handle.certificate_sha256().unwrap()]);
        let target = Target::new(&url, trust).unwrap();
        Self { handle: Some(handle), address, target }
    }

    /// A link to it.
    pub(crate) fn link(&self) -> (Link, mpsc::Receiver<Served>, Worker) {
        let (link, served, handle) = link::open(link::Options::new(self.target.clone())).unwrap();
        (link, served, Worker(Some(handle)))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.shutdown();
            handle.join().unwrap();
        }
    }
}

/// A link's worker; ends when dropped.
pub(crate) struct Worker(Option<Handle<Envelope>>);

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.shutdown();
            handle.join().unwrap();
        }
    }
}

/// A server on the tier.
pub(crate) struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Counts, serve::Error>>,
    _worker: Worker,
}

impl Serving {
    pub(crate) async fn start(relay: &Relay, backend: (Backend, mpsc::Receiver<News>)) -> Self {
        Self::start_with(relay, backend, |_| {}).await
    }

    /// The same with other limits.
    pub(crate) async fn start_with(
        relay: &Relay,
        backend: (Backend, mpsc::Receiver<News>),
        change: impl FnOnce(&mut serve::Options),
    ) -> Self {
        Self::start_own(relay, backend, None, change).await
    }

    /// The same with processes of agents' own.
    pub(crate) async fn start_own(
        relay: &Relay,
        backend: (Backend, mpsc::Receiver<News>),
        own: Option<serve::OwnProcesses>,
        change: impl FnOnce(&mut serve::Options),
    ) -> Self {
        let (link, served, worker) = relay.link();
        let (backend, news) = backend;
        let (stop, stopped) = oneshot::channel();
        let server = serve::Server { link, served, backend, news, own };
        let mut options = serve::Options::new(ServerName::new("localhost", "server").unwrap());
        change(&mut options);
        let stopped = async move { _ = stopped.await };
        let task = tokio::spawn(serve::run(server, options, stopped));
        Self { stop, task, _worker: worker }
    }

    /// Ends it; what it has done.
    pub(crate) async fn end(self) -> Counts {
        _ = self.stop.send(());
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("it ends").unwrap().unwrap()
    }
}

/// The demonstration's server over a folder. `modern`: which revisions it speaks.
pub(crate) fn library(
    folder: &std::path::Path,
    modern: Option<bool>,
) -> (Backend, mpsc::Receiver<News>) {
    let mut command = vec![
        program("aip-demo").to_string_lossy().into_owned(),
        "library".to_owned(),
        folder.to_string_lossy().into_owned(),
    ];
    if let Some(modern) = modern {
        command.push(format!("--modern={modern}"));
    }
    let (backend, news) = stdio::Stdio::start(stdio::Options::new(command));
    (Backend::Stdio(backend), news)
}

/// A server in shell with sessions. `body` is what it does with `$line`, whose id is `$id`, after
/// the handshake; `capabilities` is JSON.
pub(crate) fn shell(capabilities: &str, body: &str) -> (Backend, mpsc::Receiver<News>) {
    let (backend, news) = stdio::Stdio::start(shell_options(capabilities, body));
    (Backend::Stdio(backend), news)
}

/// How that is run.
pub(crate) fn shell_options(capabilities: &str, body: &str) -> stdio::Options {
    let script = format!(
        r#"
        while IFS= read -r line; do
            case "$line" in
            *'"server/discover"'*) printf '%s\n' '{{"jsonrpc":"2.0","id":1,"error":{{"code":-32601,"message":"?"}}}}';;
            *'"initialize"'*) printf '%s\n' '{{"jsonrpc":"2.0","id":2,"result":{{ "protocolVersion":"2025-11-25","capabilities":{capabilities},"serverInfo":{{"name":"s","version":"1"}},"extra":1.50 }}}}';;
            *notifications/initialized*) ;;
            *) id=${{line#*\"id\":}}; id=${{id%%[,\}}]*}}
               {body} ;;
            esac
        done"#
    );
    stdio::Options::new(vec!["sh".to_owned(), "-c".to_owned(), script])
}

/// A server without sessions (MCP 2026-07-28).
pub(crate) fn modern_shell(capabilities: &str, body: &str) -> (Backend, mpsc::Receiver<News>) {
    let script = format!(
        r#"
        while IFS= read -r line; do
            id=${{line#*\"id\":}}; id=${{id%%[,\}}]*}}
            case "$line" in
            *'"server/discover"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{capabilities},"ttlMs":60000,"cacheScope":"public"}}}}\n' "$id";;
            *) {body} ;;
            esac
        done"#
    );
    let command = vec!["sh".to_owned(), "-c".to_owned(), script];
    let (backend, news) = stdio::Stdio::start(stdio::Options::new(command));
    (Backend::Stdio(backend), news)
}

/// A program of this workspace, built beside the tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join(name);
    assert!(path.exists(), "{} is not there: cargo build --workspace --bins", path.display());
    path
}

/// An edge that offers the server.
pub(crate) async fn connector(link: Link) -> Arc<Connector> {
    connector_with(link, |_| {}).await
}

/// The same with other options.
pub(crate) async fn connector_with(
    link: Link,
    change: impl FnOnce(&mut connect::Options),
) -> Arc<Connector> {
    let server = ServerName::new("localhost", "server").unwrap();
    let mut options = connect::Options::new(server);
    options.wait = PATIENCE;
    change(&mut options);
    Connector::start(link, options).await.unwrap()
}

/// An edge that agents reach by HTTP; ends when dropped.
pub(crate) struct Listening {
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
}

impl Listening {
    pub(crate) async fn start(offer: impl Into<Offer>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { _ = stopped.await };
        let options = frontend::http::Options::default();
        tokio::spawn(frontend::http::run(offer.into(), listener, options, stopped));
        Self { url, stop: Some(stop) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        _ = self.stop.take().unwrap().send(());
    }
}

/// A server behind a URL.
pub(crate) fn behind(url: &str) -> (Backend, mpsc::Receiver<News>) {
    behind_with(url, |_| {})
}

/// The same, reached otherwise.
pub(crate) fn behind_with(
    url: &str,
    change: impl FnOnce(&mut http::Options),
) -> (Backend, mpsc::Receiver<News>) {
    let mut options = http::Options::new(url.to_owned());
    change(&mut options);
    let (backend, news) = http::Http::start(options).unwrap();
    (Backend::Http(backend), news)
}

/// An agent on the standard streams of an edge of its own.
pub(crate) struct Agent {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    input: Option<WriteHalf<DuplexStream>>,
    edge: JoinHandle<std::io::Result<()>>,
    last: u64,
    /// What came while an answer was waited for.
    pub(crate) heard: Vec<Value>,
}

impl Agent {
    pub(crate) async fn new(offer: impl Into<Offer>) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(theirs);
        let edge =
            tokio::spawn(frontend::stdio::run(offer.into(), input, output, std::future::pending()));
        let (read, write) = tokio::io::split(ours);
        let lines = BufReader::new(read).lines();
        Self { lines, input: Some(write), edge, last: 0, heard: Vec::new() }
    }

    /// An agent whose session has begun.
    pub(crate) async fn begun(offer: impl Into<Offer>) -> Self {
        let mut agent = Self::new(offer).await;
        agent.initialize().await;
        agent
    }

    pub(crate) async fn initialize(&mut self) -> String {
        let answer = self
            .ask_raw(r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"agent","version":"1"}}}"#)
            .await;
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        answer
    }

    pub(crate) async fn send(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(line.as_bytes()).await.unwrap();
        input.write_all(b"\n").await.unwrap();
    }

    pub(crate) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("a line comes").unwrap().expect("the edge is there")
    }

    /// Sends a line and gives the next response, byte for byte.
    pub(crate) async fn ask_raw(&mut self, line: &str) -> String {
        self.send(line).await;
        self.response().await
    }

    pub(crate) async fn response(&mut self) -> String {
        loop {
            let line = self.line().await;
            let value: Value = serde_json::from_str(&line).unwrap();
            if value.get("method").is_none() {
                return line;
            }
            self.heard.push(value);
        }
    }

    /// The result of a request, or its error.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.last += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params});
        let answer = self.ask_raw(&request.to_string()).await;
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["id"], json!(self.last));
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(answer["error"].take()),
        }
    }

    /// Waits for a notification of this method.
    pub(crate) async fn notified(&mut self, method: &str) -> Value {
        loop {
            if let Some(place) = self.heard.iter().position(|heard| heard["method"] == method) {
                return self.heard.remove(place);
            }
            let line = self.line().await;
            self.heard.push(serde_json::from_str(&line).unwrap());
        }
    }

    /// The agent and its edge are killed.
    pub(crate) async fn vanish(self) {
        self.edge.abort();
        assert!(self.edge.await.unwrap_err().is_cancelled());
    }

    /// Closes the agent's end; what the edge says until it ends.
    pub(crate) async fn close(mut self) -> Vec<String> {
        self.input.take().unwrap().shutdown().await.unwrap();
        let mut rest = Vec::new();
        while let Some(line) =
            tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("it ends").unwrap()
        {
            rest.push(line);
        }
        self.edge.await.unwrap().unwrap();
        rest
    }
}

/// The lines of a file.
pub(crate) fn lines_of(file: &tempfile::NamedTempFile) -> Vec<String> {
    std::fs::read_to_string(file.path()).unwrap().lines().map(str::to_owned).collect()
}

/// Waits for a condition.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "it does not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
