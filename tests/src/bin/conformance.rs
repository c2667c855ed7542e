//! `aip-conformance`: arguments, then the cases.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use aip_codec::Version;
use aip_engine::io::{Trust, Url};
use aip_tests::conformance::{self, Case, Endpoint, Tap};
use clap::Parser;

/// Tests any MOQT relay, over QUIC or WebTransport: what drafts 18 to 22 want of it, and what it does with peers
/// that do not keep to them.
#[derive(Debug, Parser)]
#[command(name = "aip-conformance", version, after_long_help = HELP)]
struct Arguments {
    /// The relay: moqt://host:port[/path], or https://host:port[/path] for WebTransport.
    #[arg(short, long, value_name = "URL", env = "RELAY_URL")]
    relay: Option<String>,
    /// Run this case; may be given several times. A `*` at the end stands for any ending.
    #[arg(short, long, value_name = "CASE", env = "TESTCASE", value_delimiter = ',')]
    test: Vec<String>,
    /// List the cases, one name a line, and end. With --verbose: what each wants, where the draft
    /// says so, and in which drafts.
    #[arg(short, long)]
    list: bool,
    /// Drafts to test: 22, 18,20,22 or 18..22. All that the relay speaks, if not given.
    #[arg(long, value_name = "DRAFTS", env = "MOQT_DRAFT", value_parser = drafts)]
    draft: Option<Drafts>,
    /// Believe any certificate. For tests.
    #[arg(long, visible_alias = "insecure", env = "TLS_DISABLE_VERIFY",
          value_parser = clap::builder::FalseyValueParser::new())]
    tls_disable_verify: bool,
    /// Believe certificates that an authority of this PEM file has signed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_sha256", "tls_disable_verify"])]
    ca: Option<PathBuf>,
    /// Believe the certificate with this SHA-256 (64 hexadecimal digits, colons between them or
    /// not).
    #[arg(long, value_name = "HEX", value_parser = sha256, conflicts_with = "tls_disable_verify")]
    certificate_sha256: Option<[u8; 32]>,
    /// Write the results to this file, too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cases that run at one time.
    #[arg(long, value_name = "COUNT", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Say more: with --list what each case wants; otherwise the name of each failure on stderr.
    #[arg(short, long, env = "VERBOSE", value_parser = clap::builder::FalseyValueParser::new())]
    verbose: bool,
}

const HELP: &str = "\
Examples:
  Everything that a relay on this machine should do, in all drafts it speaks:
    aip-conformance -r moqt://127.0.0.1:4443 --tls-disable-verify

  One case, or a family of cases, in one draft:
    aip-conformance -r moqt://127.0.0.1:4443 --insecure --draft 22 -t setup-only
    aip-conformance -r moqt://127.0.0.1:4443 --insecure --draft 18 -t 'malformed-*'

  What there is:
    aip-conformance --list --verbose

The interface is that of moq-interop-runner's test clients: TAP version 14 on stdout; RELAY_URL,
TESTCASE, MOQT_DRAFT, TLS_DISABLE_VERIFY and VERBOSE in the environment stand for the options.
Some cases wait for the relay's own timers, up to 45 s each; --jobs of them at one time.
It takes about one connection a case: a relay that limits connections of one address has to be told.

Exit status: 0 all passed, 1 something failed or the relay was not reached, 2 wrong usage, 127 a case
that does not exist, or not in these drafts or over this transport.";

/// Drafts to test, newest first.
#[derive(Clone, Debug)]
struct Drafts(Vec<Version>);

fn drafts(text: &str) -> Result<Drafts, String> {
    conformance::drafts(text).map(Drafts)
}

/// What went wrong before there was a result.
enum Trouble {
    /// Wrong usage: 2.
    Usage(String),
    /// Not something that this program does: 127.
    Unsupported(String),
    /// The relay cannot be tested: 1.
    Relay(String),
    /// A file or stdout cannot be written: 1.
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn main() -> ExitCode {
    let result = start(&Arguments::parse());
    let (message, code) = match result {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::FAILURE,
        Err(Trouble::Usage(message)) => (message, 2),
        Err(Trouble::Unsupported(message)) => (message, 127),
        Err(Trouble::Relay(message)) => {
            // Said on stdout, too, for those who read TAP; stderr says it if that is closed.
            drop(Tap::bail_out(io::stdout(), &message));
            (message, 1)
        }
        Err(Trouble::Output(error)) => (format!("cannot write the results: {error}"), 1),
    };
    say(&format!("aip-conformance: {message}"));
    ExitCode::from(code)
}

/// Whether all passed.
fn start(arguments: &Arguments) -> Result<bool, Trouble> {
    let mut cases = conformance::all();
    if !arguments.test.is_empty() {
        check_names(&arguments.test, &cases)?;
        cases.retain(|case| arguments.test.iter().any(|pattern| matches(pattern, case)));
    }
    if arguments.list {
        return match list(&cases, arguments.verbose) {
            // Who reads, `head` for one, has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
            listed => Ok(listed.map(|()| true)?),
        };
    }
    let endpoint = endpoint(arguments)?;
    let drafts = spoken(arguments, &endpoint)?;
    let plan = conformance::plan(&cases, &drafts, endpoint.is_webtransport());
    if plan.is_empty() {
        return Err(Trouble::Unsupported("no such case in the drafts tested".to_owned()));
    }
    let names: Vec<_> = drafts.iter().map(|draft| format!("draft-{}", draft.number())).collect();
    let comments = [
        concat!("aip-conformance ", env!("CARGO_PKG_VERSION")).to_owned(),
        format!("Relay: {}", endpoint.url),
        format!("Draft: {}", names.join(" ")),
    ];
    let mut tap = Tap::new(io::stdout().lock(), &comments, plan.len(), drafts.len())?;
    let mut written = Ok(());
    let mut failed = 0;
    let mut results = Vec::new();
    conformance::run(&endpoint, &plan, usize::from(arguments.jobs), |run| {
        if run.outcome.is_err() {
            failed += 1;
            if arguments.verbose {
                say(&format!("{} in draft {} failed", run.case.name, run.version.number()));
            }
        }
        if written.is_ok() {
            written = tap.point(&run);
        }
        results.push(conformance::json(&run));
    });
    written?;
    if let Some(path) = &arguments.json {
        let report = serde_json::json!({
            "program": comments[0], "relay": endpoint.url.to_string(),
            "passed": plan.len() - failed, "failed": failed, "results": results,
        });
        fs::write(path, format!("{report:#}\n"))?;
    }
    say(&format!("{} passed, {failed} failed", plan.len() - failed));
    Ok(failed == 0)
}

fn endpoint(arguments: &Arguments) -> Result<Endpoint, Trouble> {
    let Some(url) = &arguments.relay else {
        let message = "which relay? Say -r moqt://host:port, or https://".to_owned();
        return Err(Trouble::Usage(message));
    };
    let trust = match (&arguments.ca, arguments.certificate_sha256, arguments.tls_disable_verify) {
        (Some(path), ..) => Trust::Ca(path.clone()),
        (None, Some(pin), _) => Trust::CertificateSha256(vec![pin]),
        (None, None, true) => Trust::Insecure,
        (None, None, false) => {
            let message = "nothing says why to trust the relay; say --ca FILE, \
                           --certificate-sha256 HEX or --tls-disable-verify";
            return Err(Trouble::Usage(message.to_owned()));
        }
    };
    let url: Url =
        url.parse().map_err(|error: aip_engine::io::Error| Trouble::Usage(error.to_string()))?;
    Endpoint::new(url, trust).map_err(Trouble::Relay)
}

/// The drafts to test: those asked for, all of which must be spoken, or all that are.
fn spoken(arguments: &Arguments, endpoint: &Endpoint) -> Result<Vec<Version>, Trouble> {
    let wanted = match &arguments.draft {
        Some(Drafts(wanted)) => wanted.clone(),
        None => Version::PREFERENCE.to_vec(),
    };
    let spoken = conformance::probe(endpoint, &wanted)
        .map_err(|failure| Trouble::Relay(format!("{}: {failure}", endpoint.url)))?;
    let missing = wanted.iter().find(|draft| !spoken.contains(draft));
    match missing {
        Some(draft) if arguments.draft.is_some() => {
            Err(Trouble::Relay(format!("the relay does not speak draft {}", draft.number())))
        }
        _ => Ok(spoken),
    }
}

fn matches(pattern: &str, case: &Case) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => case.name.starts_with(beginning),
        None => case.name == canonical(pattern),
    }
}

/// Our name of a case that older test clients call otherwise.
fn canonical(name: &str) -> &str {
    match name {
        "announce-only" => "publish-namespace-only",
        "announce-subscribe" => "publish-namespace-subscribe",
        "subscribe-before-announce" => "subscribe-before-publish-namespace",
        name => name,
    }
}

fn check_names(patterns: &[String], cases: &[Case]) -> Result<(), Trouble> {
    let known = |pattern: &&String| cases.iter().any(|case| matches(pattern, case));
    match patterns.iter().find(|pattern| !known(pattern)) {
        None => Ok(()),
        Some(pattern) => {
            Err(Trouble::Unsupported(format!("no case `{pattern}`; --list says which there are")))
        }
    }
}

fn list(cases: &[Case], verbose: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for case in cases {
        if verbose {
            let (first, last) = (case.drafts.start(), case.drafts.end());
            let Case { name, section, about, .. } = case;
            writeln!(out, "{name}\t{first}..{last}\t[{section}]\t{about}")?;
        } else {
            writeln!(out, "{}", case.name)?;
        }
    }
    Ok(())
}

/// A hash as people write it.
fn sha256(text: &str) -> Result<[u8; 32], String> {
    let digits: Vec<u32> =
        text.chars().filter(|&it| it != ':').map_while(|it| it.to_digit(16)).collect();
    let length = text.chars().filter(|&it| it != ':').count();
    let mut hash = [0; 32];
    if digits.len() != 64 || length != 64 {
        return Err("64 hexadecimal digits are wanted".to_owned());
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::try_from(pair[0] << 4 | pair[1]).map_err(|error| error.to_string())?;
    }
    Ok(hash)
}

/// One line on stderr. Whoever closed it does not want to know.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn cases_are_found_by_name_alias_and_beginning() {
        let cases = conformance::all();
        for name in ["setup-only", "announce-only", "malformed-*"] {
            assert!(check_names(&[name.to_owned()], &cases).is_ok(), "{name}");
        }
        for name in ["", "setup", "nothing-*"] {
            assert!(check_names(&[name.to_owned()], &cases).is_err(), "{name}");
        }
    }

    #[test]
    fn hashes_are_64_hexadecimal_digits() {
        assert_eq!(sha256(&"0F".repeat(32)), Ok([0x0f; 32]));
        assert_eq!(sha256(&["0f"; 32].join(":")), Ok([0x0f; 32]));
        for wrong in ["", "0f", &"0g".repeat(32), &"0f".repeat(33)] {
            assert!(sha256(wrong).is_err(), "{wrong}");
        }
    }
}
