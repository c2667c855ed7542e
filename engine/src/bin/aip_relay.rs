//! `aip-relay`: arguments, configuration, start.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use aip_codec::{Version, aip::hops::RelayId};
use aip_engine::{
    io::{
        Config, ConfigFile, EXAMPLE, Error, Identity, LogFormat, Ready, Target, Trust,
        log_to_stderr, memory_limit,
    },
    relay,
    shard::Shard,
};
use aip_telemetry::Telemetry;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A MOQT relay: fans out, caches and routes what agents and servers say, over QUIC.
///
/// Speaks MOQT drafts 22 to 18 (ALPN moqt-22 … moqt-18) and carries any application above MOQT.
#[derive(Debug, Parser)]
#[command(name = "aip-relay", version, after_long_help = HELP)]
struct Arguments {
    /// Address to listen on (UDP); may be given several times. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// Certificate to show, with its intermediates (PEM).
    #[arg(long, value_name = "PEM", requires = "key", conflicts_with = "dev_cert")]
    cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "PEM", requires = "cert")]
    key: Option<PathBuf>,
    /// Show a new certificate for localhost instead, good for ten days; its SHA-256 is printed,
    /// for clients to pin.
    #[arg(long)]
    dev_cert: bool,
    /// Worker threads, 1 to 64, each with connections of its own [default: as many as the process
    /// may use cores]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Let anyone publish and subscribe. Needed: there is no other access control yet.
    #[arg(long)]
    open: bool,
    /// Serve /metrics (OpenMetrics), /healthz and /readyz over plain HTTP at this address.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Tell an OpenTelemetry collector of calls and metrics by OTLP over HTTP, such as
    /// http://127.0.0.1:4318; without this the OTEL_* variables decide, and the default is not to.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Keep what outlives the process in this directory: the key of stateless resets and the
    /// connections there are, so that after a crash the next relay at this address ends them at
    /// once. Made if it is not there.
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
    /// How the log on stderr is written: text for people, json for machines [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Connect to this relay, too (moqt://host:port[/path], or https:// for WebTransport); may be given several times.
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,
    /// This relay's number among relays: 1 to 16 hexadecimal digits, unlike every other relay's.
    /// Random by default.
    #[arg(long, value_name = "HEX")]
    relay_id: Option<String>,
    /// Believe upstream relays whose certificate an authority of this PEM file has signed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_sha256", "insecure"])]
    ca: Option<PathBuf>,
    /// Believe upstream relays whose certificate has this SHA-256 (64 hexadecimal digits, colons
    /// between them or not); may be given several times.
    #[arg(long, value_name = "HEX", conflicts_with = "insecure")]
    certificate_sha256: Vec<String>,
    /// Believe any upstream relay. For tests.
    #[arg(long)]
    insecure: bool,
    /// Read settings from this TOML file; options of the command line win.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a configuration file with every setting, its default and what it does.
    #[arg(long)]
    example_config: bool,
}

const HELP: &str = "\
Examples:
  A relay for development. It prints the SHA-256 that clients pin:
    aip-relay --listen 127.0.0.1:4443 --dev-cert --open

  A relay with a certificate of its own, and metrics:
    aip-relay --listen 0.0.0.0:4443 --listen '[::]:4443' --cert relay.pem --key relay.key \\
        --open --admin 127.0.0.1:9443
    curl http://127.0.0.1:9443/metrics
    curl http://127.0.0.1:9443/readyz

  A relay beneath another one:
    aip-relay --listen 0.0.0.0:4443 --cert relay.pem --key relay.key --open \\
        --upstream moqt://relay.example:4443 --ca authorities.pem

  A relay beneath two that know each other: when one fails, tracks go on from the other:
    aip-relay --listen 0.0.0.0:4443 --cert relay.pem --key relay.key --open \\
        --upstream moqt://one.example:4443 --upstream moqt://two.example:4443 --ca authorities.pem

  Every setting there is:
    aip-relay --example-config > relay.toml
    aip-relay --config relay.toml

When it is ready it says on stderr, once per address:
    listening on 127.0.0.1:4443 (moqt-22 moqt-21 moqt-20 moqt-19 moqt-18)

SIGTERM and SIGINT drain: peers are told to go (GOAWAY), and the relay ends when they have gone or
after drain_timeout. A second signal ends it at once.

Environment:
  RUST_LOG    what is logged to stderr: error, warn, info (default), debug, trace, or by module

Exit status: 0 drained, 1 failed, 2 wrong usage.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.example_config {
        return match io::stdout().write_all(EXAMPLE.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    match configured(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("aip-relay: {error}"));
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

fn configured(arguments: Arguments) -> Result<(), Error> {
    let file = match &arguments.config {
        Some(path) => ConfigFile::load(path)?,
        None => ConfigFile::default(),
    };
    // What is logged is written before the guard goes.
    let _written = log_to_stderr(arguments.log_format.unwrap_or(file.log_format));
    start(arguments, file)
}

fn start(arguments: Arguments, file: ConfigFile) -> Result<(), Error> {
    if !arguments.open && !file.open {
        return Err(usage(
            "access control is not there yet, so anyone who reaches this relay could publish and \
             subscribe anything. Say --open if that is what you want",
        ));
    }
    let mut limits: relay::Config = file.relay.clone().into();
    limits.session.relay_id =
        Some(relay_id(arguments.relay_id.as_ref().or(file.relay_id.as_ref()))?);
    let telemetry = Telemetry::start("aip-relay", arguments.otlp.as_deref());
    let telemetry = telemetry.map_err(|error| usage(&error.to_string()))?.map(Arc::new);
    if telemetry.is_some() {
        limits.trace_seed = Some(aip_engine::io::random_relay_id()?.0);
    }
    let config = configuration(arguments, file)?.with_telemetry(telemetry.clone());
    if let Some(memory) = config.memory_max {
        limits = limits.within(memory);
    }
    let dials = !config.targets.is_empty();
    let ended =
        aip_engine::io::run(config, move |place| Shard::new(&limits, place, dials), announce);
    if let Some(telemetry) = telemetry.and_then(Arc::into_inner) {
        telemetry.shutdown();
    }
    ended
}

/// What the command line and the file say together.
fn configuration(arguments: Arguments, file: ConfigFile) -> Result<Config, Error> {
    let trust = trust(&arguments, &file)?;
    let listen = or(arguments.listen, file.listen);
    if listen.is_empty() {
        return Err(usage("nothing to listen on. Say --listen ADDR"));
    }
    // Files on the command line win over dev_cert in the file, and the other way round.
    let given = arguments.cert.is_some() || arguments.dev_cert;
    let (certificate, key, development) = if given {
        (arguments.cert, arguments.key, arguments.dev_cert)
    } else {
        (file.cert, file.key, file.dev_cert)
    };
    let identity = match (certificate, key, development) {
        (Some(certificate), Some(key), false) => Identity::Files { certificate, key },
        (None, None, true) => Identity::Development,
        (None, None, false) => {
            return Err(usage("no certificate. Say --cert PEM --key PEM, or --dev-cert"));
        }
        _ => return Err(usage("cert and key go together, and without dev_cert")),
    };
    let targets = or(arguments.upstream, file.upstream)
        .iter()
        .map(|url| Target::new(url, trust.clone()))
        .collect::<Result<_, _>>()?;
    let mut config = Config::server(listen, identity)
        .with_targets(targets)
        .with_quic(file.quic)
        .with_handshake(file.handshake)
        .with_dial(file.dial)
        .with_signals(true);
    config.workers = arguments.workers.or(file.workers).unwrap_or_else(Config::workers_of_machine);
    config.admin = arguments.admin.or(file.admin);
    config.state_directory = arguments.state_directory.or(file.state_directory);
    config.memory_max = file.memory_max.or_else(memory_limit);
    if let Some(timeout) = file.drain_timeout {
        config.drain_timeout = timeout;
    }
    config.awake = file.awake.unwrap_or(config.awake);
    config.nap = file.nap.unwrap_or(config.nap);
    Ok(config)
}

/// Why upstream relays are believed. The command line's reason replaces the file's.
fn trust(arguments: &Arguments, file: &ConfigFile) -> Result<Option<Trust>, Error> {
    let given =
        arguments.ca.is_some() || !arguments.certificate_sha256.is_empty() || arguments.insecure;
    let (ca, pins, insecure) = if given {
        (&arguments.ca, &arguments.certificate_sha256, arguments.insecure)
    } else {
        (&file.ca, &file.certificate_sha256, file.insecure)
    };
    match (ca, pins.as_slice(), insecure) {
        (Some(ca), [], false) => Ok(Some(Trust::Ca(ca.clone()))),
        (None, [], true) => Ok(Some(Trust::Insecure)),
        (None, [], false) => Ok(None),
        (None, pins, false) => {
            let pins: Option<_> = pins.iter().map(|pin| sha256(pin)).collect();
            let pins =
                pins.ok_or_else(|| usage("certificate_sha256 takes 64 hexadecimal digits"))?;
            Ok(Some(Trust::CertificateSha256(pins)))
        }
        _ => Err(usage("one of ca, certificate_sha256 and insecure is enough")),
    }
}

/// The number that is given, or a random one.
fn relay_id(given: Option<&String>) -> Result<RelayId, Error> {
    let Some(given) = given else { return aip_engine::io::random_relay_id() };
    let is_hexadecimal = given.bytes().all(|digit| digit.is_ascii_hexdigit());
    match u64::from_str_radix(given, 16) {
        Ok(number) if is_hexadecimal && number != 0 => Ok(RelayId(number)),
        _ => Err(usage("relay_id takes 1 to 16 hexadecimal digits, not all of them 0")),
    }
}

/// A hash as people write it.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits: String = text.chars().filter(|&character| character != ':').collect();
    let mut hash = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).ok()?;
    }
    // `from_str_radix` would take a sign.
    digits.chars().all(|digit| digit.is_ascii_hexdigit()).then_some(hash)
}

fn or<T>(given: Vec<T>, otherwise: Vec<T>) -> Vec<T> {
    if given.is_empty() { otherwise } else { given }
}

fn announce(ready: &Ready) {
    tracing::warn!("open: anyone who reaches this relay may publish and subscribe");
    if let Some(hash) = ready.development_certificate_sha256 {
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        say(&format!("certificate SHA-256 {hash}"));
    }
    if let Some(address) = ready.admin {
        say(&format!("admin on http://{address}"));
    }
    let versions = Version::PREFERENCE.map(Version::alpn).join(" ");
    for address in &ready.addresses {
        say(&format!("listening on {address} ({versions})"));
    }
}

/// One line on stderr. Whoever closed it does not want to know.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

fn usage(message: &str) -> Error {
    Error::Config(message.to_owned())
}

const fn is_usage(error: &Error) -> bool {
    matches!(error, Error::Config(_) | Error::Target { .. })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn file(text: &str) -> ConfigFile {
        toml::from_str(text).unwrap()
    }

    fn with(arguments: &[&str], file: ConfigFile) -> Result<Config, Error> {
        let arguments = Arguments::parse_from([&["aip-relay"], arguments].concat());
        configuration(arguments, file)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_command_line_wins() {
        let text = "listen = ['127.0.0.1:1']\ncert = 'a'\nkey = 'b'\nupstream = ['moqt://a']\n\
                    insecure = true\nadmin = '127.0.0.1:2'";
        let config = with(&[], file(text)).unwrap();
        assert!(matches!(config.identity, Some(Identity::Files { .. })));
        assert_eq!(config.targets[0].trust, Some(Trust::Insecure));
        assert_eq!(config.admin, Some("127.0.0.1:2".parse().unwrap()));
        let hex = "ab".repeat(32);
        let arguments = [
            "--listen",
            "[::1]:3",
            "--dev-cert",
            "--certificate-sha256",
            &hex,
            "--admin",
            "[::1]:4",
        ];
        let config = with(&arguments, file(text)).unwrap();
        assert_eq!(config.listen, ["[::1]:3".parse().unwrap()]);
        assert!(matches!(config.identity, Some(Identity::Development)));
        let pins = Trust::CertificateSha256(vec![[0xab; 32]]);
        assert_eq!(config.targets[0].trust, Some(pins));
        assert_eq!(config.admin, Some("[::1]:4".parse().unwrap()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let message = with(&["--dev-cert"], file("")).unwrap_err().to_string();
        assert!(message.contains("--listen"), "{message}");
        let message = with(&["--listen", "127.0.0.1:0"], file("")).unwrap_err().to_string();
        assert!(message.contains("--dev-cert"), "{message}");
        let arguments = ["--listen", "127.0.0.1:0", "--dev-cert", "--upstream", "http://a"];
        assert!(is_usage(&with(&arguments, file("")).unwrap_err()));
    }

    #[test]
    fn a_relays_number_is_hexadecimal_and_not_0() {
        assert_eq!(relay_id(Some(&"00000000000000a1".to_owned())).unwrap(), RelayId(0xa1));
        for wrong in ["", "0", "+1", "g", "10000000000000000"] {
            assert!(is_usage(&relay_id(Some(&wrong.to_owned())).unwrap_err()), "{wrong}");
        }
        assert_ne!(relay_id(None).unwrap(), relay_id(None).unwrap());
    }

    #[test]
    fn hashes_are_64_hexadecimal_digits() {
        assert_eq!(sha256(&"0F".repeat(32)), Some([0x0f; 32]));
        assert_eq!(sha256(&["0f"; 32].join(":")), Some([0x0f; 32]));
        for wrong in ["", "0f", &"0g".repeat(32), &"+f".repeat(32), &"é".repeat(32)] {
            assert_eq!(sha256(wrong), None, "{wrong}");
        }
    }
}
