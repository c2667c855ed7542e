//! `aip-mcp`: any MCP server or client on the relay tier, unchanged.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use aip_engine::io::{Target, Trust};
use aip_gateway::{
    configuration::{self, Era, Sharing},
    connect,
    encoding::Encoding,
    federation::{self, configuration::Named},
    fleet, frontend, link,
    message::Limits,
    name::ServerName,
    observed::{Observer, Side},
    offer::Offer,
    serve,
};
use aip_telemetry::Telemetry;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Any MCP server or client on a tier of AIP relays, unchanged.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Publish a server that talks on its standard streams:
    aip-mcp serve --relay moqt://relay.example.org:4443 --name files --ca ca.pem \\
        -- npx -y @modelcontextprotocol/server-filesystem /srv/files
  Publish a server that is reached by HTTP:
    aip-mcp serve --relay moqt://127.0.0.1:4443 --name docs --certificate-sha256 HEX \\
        --url http://127.0.0.1:3001/mcp
  Publish all servers of a file, and follow its changes:
    aip-mcp serve --relay moqt://relay.example.org:4443 --ca ca.pem --config servers.toml
  Offer it to an MCP client that starts its servers as processes:
    aip-mcp connect --relay moqt://relay.example.org:4443 --server files --ca ca.pem
  Offer two servers as one, as files_read_file, docs_search and so on:
    aip-mcp connect --relay moqt://relay.example.org:4443 --server files --server docs=a.org/d \\
        --ca ca.pem
  Offer it to MCP clients by HTTP, at http://127.0.0.1:8080/mcp:
    aip-mcp connect --relay moqt://127.0.0.1:4443 --server files --ca ca.pem --listen 127.0.0.1:8080

Logs go to stderr; RUST_LOG sets how much (error, warn, info, debug).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish an MCP server on a relay.
    #[command(after_help = EXAMPLES)]
    Serve(ServeArguments),
    /// Offer published MCP servers to MCP clients.
    #[command(after_help = EXAMPLES)]
    Connect(ConnectArguments),
}

#[derive(Args, Debug)]
struct RelayArguments {
    /// The relay: moqt://HOST:PORT.
    #[arg(long, value_name = "URL")]
    relay: String,
    /// Believe a relay whose certificate is signed by an authority of this PEM file.
    #[arg(long, value_name = "FILE", group = "trust")]
    ca: Option<PathBuf>,
    /// Believe a relay whose certificate has this SHA-256, in hexadecimal digits.
    #[arg(long, value_name = "HEX", group = "trust")]
    certificate_sha256: Vec<String>,
    /// Believe any relay. For tests on one's own machine.
    #[arg(long, group = "trust")]
    insecure: bool,
    /// Bytes of one MCP message, a result among them.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    result_max: usize,
    /// Tell an OpenTelemetry collector of spans and metrics by OTLP over HTTP, such as
    /// http://127.0.0.1:4318; without this the OTEL_* variables decide, and the default is not to.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

#[derive(Args, Debug)]
struct ServeArguments {
    #[command(flatten)]
    relay: RelayArguments,
    /// What the server is called at the relay.
    #[arg(long, required_unless_present = "config")]
    name: Option<String>,
    /// Serve all that this TOML file says, and whatever it says later: [server.NAME] with command or
    /// url, environment, headers, directory, processes, concurrency, revision, and limits.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "url", "command"])]
    config: Option<PathBuf>,
    /// Who answers for it: a DNS name in lower case.
    #[arg(long, default_value = "localhost")]
    authority: String,
    /// The server's Streamable HTTP endpoint, instead of a command.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "command",
        required_unless_present_any = ["command", "config"]
    )]
    url: Option<String>,
    /// How long a result is good if the server neither says so nor tells of changes.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    default_ttl: Duration,
    /// How long a call may go without a sign of life before it is cancelled.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    call_timeout: Duration,
    /// How long a call may take in all.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    call_deadline: Duration,
    /// Calls at one time; one more is refused.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    calls_max: usize,
    /// How old a result may be that is given again because the server fails; 0s is never.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    stale_if_error: Duration,
    /// Revisions of MCP to try with the server.
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    revision: Era,
    /// Which agents share a process of the server.
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    processes: Sharing,
    /// Requests that one process works on at one time; others wait.
    #[arg(long, value_name = "NUMBER")]
    concurrency: Option<usize>,
    /// The program that is the server, and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Args, Debug)]
struct ConnectArguments {
    #[command(flatten)]
    relay: RelayArguments,
    /// The server: [AUTHORITY/]NAME; the authority is `localhost` if none is named. Several, or one
    /// with PREFIX=, are offered as one: their tools and prompts are PREFIX_name, their resources
    /// PREFIX+uri. The prefix is the server's name if none is given.
    #[arg(long, value_name = "[PREFIX=]NAME", required_unless_present = "config")]
    server: Vec<String>,
    /// Offer all servers of this TOML file as one: [server.PREFIX], with name = "[AUTHORITY/]NAME" if
    /// that is not the prefix.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    config: Option<PathBuf>,
    /// Serve Streamable HTTP at http://ADDRESS/mcp instead of standard streams.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
    /// Origins besides this machine's whose web pages may use it over HTTP.
    #[arg(long, value_name = "ORIGIN", requires = "listen")]
    allow_origin: Vec<String>,
    /// Say in the `_meta` of results where they come from ("aip/cache").
    #[arg(long)]
    cache_status: bool,
    /// Ask the server itself for everything: nothing is answered from a relay's cache.
    #[arg(long)]
    no_cache: bool,
    /// Offer agents only what the server itself has, sessions or none: who can do both then does as the
    /// server does, and gets every byte of it.
    #[arg(long)]
    no_bridge: bool,
    /// How long any call may take before it is cancelled; `_meta` may say less ("aip/deadlineMs").
    #[arg(long, value_name = "TIME", value_parser = duration)]
    deadline: Option<Duration>,
    /// Priority of calls, 0 (first) to 255; `_meta` may say another ("aip/priority").
    #[arg(long, value_name = "NUMBER")]
    priority: Option<u8>,
    /// How calls go over the network: json is byte for byte what the client said; compact is the same
    /// values in fewer bytes and more processor time, if the server's edge takes it.
    #[arg(long, value_name = "ENCODING", default_value = "json")]
    encoding: Encoding,
    /// How long to wait for the relay and for the server to be published.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    wait: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    aip_gateway::log::start();
    let (reason, code) = match run(arguments) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(reason)) => (reason, ExitCode::from(2)),
        Err(Failure::Run(reason)) => (reason, ExitCode::FAILURE),
    };
    tracing::error!("{reason}");
    code
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let (service, side, otlp) = match &arguments.command {
        Command::Serve(arguments) => ("aip-mcp-serve", Side::Client, &arguments.relay.otlp),
        Command::Connect(arguments) => ("aip-mcp-connect", Side::Server, &arguments.relay.otlp),
    };
    let telemetry = Telemetry::start(service, otlp.as_deref()).map_err(usage)?;
    let observer = telemetry.as_ref().map(|telemetry| Observer::new(telemetry, side));
    let observer = observer.unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Run(format!("no threads can be had: {error}")))?;
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => run_serve(arguments, observer).await,
            Command::Connect(arguments) => run_connect(arguments, observer).await,
        }
    });
    if let Some(telemetry) = telemetry {
        telemetry.shutdown();
    }
    // Reading standard input cannot be given up; nothing else is left.
    runtime.shutdown_background();
    done
}

/// Why the program fails.
enum Failure {
    /// What was asked cannot be.
    Usage(String),
    /// It could not be done.
    Run(String),
}

fn usage(error: impl ToString) -> Failure {
    Failure::Usage(error.to_string())
}

fn failed(error: impl ToString) -> Failure {
    Failure::Run(error.to_string())
}

async fn run_serve(arguments: ServeArguments, observer: Observer) -> Result<(), Failure> {
    let link = link_options(&arguments.relay)?;
    let limits = Limits { length_max: arguments.relay.result_max, ..Limits::default() };
    let stop = stopped()?;
    if let Some(file) = arguments.config {
        let options = fleet::Options { file, link, limits, observer };
        return fleet::run(options, stop).await.map_err(Failure::Usage);
    }
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).ok();
    let server = configuration::Server {
        authority: Some(arguments.authority),
        command: arguments.command,
        url: arguments.url,
        revision: arguments.revision,
        processes: arguments.processes,
        concurrency: arguments.concurrency,
        default_ttl_ms: milliseconds(arguments.default_ttl),
        stale_if_error_ms: milliseconds(arguments.stale_if_error),
        call_timeout_ms: milliseconds(arguments.call_timeout),
        call_deadline_ms: milliseconds(arguments.call_deadline),
        calls_max: Some(arguments.calls_max),
        ..configuration::Server::default()
    };
    let name = server.name(&arguments.name.unwrap_or_default()).map_err(usage)?;
    let (link, served, handle) = link::open(link).map_err(failed)?;
    let started = server.start(limits).map_err(usage)?;
    let mut options = server.options(name, limits);
    options.observer = observer.of(&options.name);
    let telling = tell_connection(&link, arguments.relay.relay);
    let server = serve::Server {
        link,
        served,
        backend: started.backend,
        news: started.news,
        own: started.own,
    };
    let served = serve::run(server, options, stop).await;
    telling.abort();
    link::close(handle).await;
    let counts = served.map_err(failed)?;
    tracing::info!(
        track_reads = counts.track_reads,
        calls = counts.calls,
        called_reads = counts.called_reads,
        repeated_calls = counts.repeated_calls,
        "ended"
    );
    Ok(())
}

async fn run_connect(arguments: ConnectArguments, observer: Observer) -> Result<(), Failure> {
    let named = match &arguments.config {
        Some(file) => Named::Several(federation::configuration::read(file).map_err(usage)?),
        None => federation::configuration::of_arguments(&arguments.server).map_err(usage)?,
    };
    let options = link_options(&arguments.relay)?;
    let stop = stopped()?;
    // Bound first: what is wrong with an address is said at once.
    let listener = match arguments.listen {
        None => None,
        Some(address) => Some(
            tokio::net::TcpListener::bind(address)
                .await
                .map_err(|error| Failure::Run(format!("cannot listen on {address}: {error}")))?,
        ),
    };
    let (link, _served, handle) = link::open(options).map_err(failed)?;
    let ended = match offer(link, named, &arguments, &observer).await {
        Err(error) => Err(error),
        Ok(offer) => match listener {
            Some(listener) => {
                let mut options = frontend::http::Options::default();
                options.allowed_origins = arguments.allow_origin;
                frontend::http::run(offer, listener, options, stop).await
            }
            None => {
                let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
                frontend::stdio::run(offer, input, output, stop).await
            }
        }
        .map_err(failed),
    };
    link::close(handle).await;
    ended
}

/// What agents are offered, once it is there.
async fn offer(
    link: link::Link,
    named: Named,
    arguments: &ConnectArguments,
    observer: &Observer,
) -> Result<Offer, Failure> {
    let options = |server: ServerName| {
        let mut options = connect::Options::new(server);
        options.observer = observer.of(&options.server);
        options.wait = arguments.wait;
        options.reads_tracks = !arguments.no_cache;
        options.tells_cache_status = arguments.cache_status;
        options.bridges = !arguments.no_bridge;
        (options.call_deadline, options.priority) = (arguments.deadline, arguments.priority);
        options.encoding = arguments.encoding;
        options.limits.length_max = arguments.relay.result_max;
        options
    };
    match named {
        Named::One(server) => {
            let connector = connect::Connector::start(link, options(server)).await;
            Ok(Offer::from(connector.map_err(failed)?))
        }
        Named::Several(servers) => {
            let servers = servers.into_iter().map(|(prefix, name)| (prefix, options(name)));
            let federation = federation::Federation::start(link, servers.collect()).await;
            Ok(Offer::from(federation.map_err(failed)?))
        }
    }
}

/// Done at the first SIGTERM or SIGINT.
fn stopped() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Says when the relay is lost and when it is back.
fn tell_connection(link: &link::Link, relay: String) -> tokio::task::JoinHandle<()> {
    let mut connection = link.connection();
    tokio::spawn(async move {
        loop {
            match &*connection.borrow_and_update() {
                link::Connection::Up { version, calls: true } => {
                    tracing::info!(relay, ?version, "connected");
                }
                link::Connection::Up { version, calls: false } => {
                    tracing::warn!(relay, ?version, "connected, but this relay carries no calls");
                }
                link::Connection::Down { reason: Some(reason) } => {
                    tracing::warn!(relay, "not connected: {reason}; trying again");
                }
                link::Connection::Down { reason: None } => {}
            }
            if connection.changed().await.is_err() {
                return;
            }
        }
    })
}

fn link_options(arguments: &RelayArguments) -> Result<link::Options, Failure> {
    let trust = if let Some(file) = &arguments.ca {
        Trust::Ca(file.clone())
    } else if arguments.insecure {
        Trust::Insecure
    } else if arguments.certificate_sha256.is_empty() {
        return Err(usage(
            "say why the relay is to be believed: --ca FILE (signed by an authority of your own), \
             --certificate-sha256 HEX (as `aip-relay --dev-cert` prints it), or --insecure (tests \
             on one's own machine)",
        ));
    } else {
        let hashes = arguments.certificate_sha256.iter().map(|text| sha256(text));
        Trust::CertificateSha256(hashes.collect::<Option<_>>().ok_or_else(|| {
            usage("--certificate-sha256 takes 64 hexadecimal digits, colons between them or not")
        })?)
    };
    let relay = Target::new(&arguments.relay, trust).map_err(usage)?;
    let mut options = link::Options::new(relay);
    options.client.record_length_max = arguments.result_max.saturating_add(4_096);
    options.client.version_length_max = arguments.result_max;
    options.client.queued_bytes_max =
        options.client.queued_bytes_max.max(arguments.result_max.saturating_mul(2));
    Ok(options)
}

/// The 32 bytes that 64 hexadecimal digits are.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| *character != ':')
        .map(|character| character.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).filter_map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect();
    (digits.len() == 64).then(|| bytes.try_into().ok())?
}

/// A time such as `250ms`, `10s`, `5m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write 250ms, 10s, 5m or 1h");
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..end].parse().map_err(|_| wrong())?;
    let milliseconds = match &text[end..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        for wrong in ["", "5", "s", "-1s", "1d", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn certificates_are_hexadecimal() {
        assert_eq!(sha256(&"ab".repeat(32)), Some([0xab; 32]));
        assert_eq!(sha256(&["AB"; 32].join(":")), Some([0xab; 32]));
        assert_eq!(sha256("abc"), None);
        assert_eq!(sha256(&"zz".repeat(32)), None);
    }
}
