//! What hostile peers say, and what of it comes out where people look: in the log and the metrics.

use std::{
    io,
    time::{Duration, Instant},
};

use aip_codec::moqt::{
    error_code::SessionCode,
    name::{FullTrackName, TrackNamespace},
    parameter::{Parameter, Parameters},
    token::Token,
};
use aip_engine::session::Session;
use bytes::Bytes;

use super::{
    agent::{Agent, Command, PATIENCE, Role, Told},
    case::Scale,
    delivery::ANY,
    figure::{Figure, Goal},
    relay::{Relay, target},
};

/// What must not be written down anywhere.
const SECRET: &str = "canary-5f0c";
/// What ends lines, moves cursors and turns writing round, and looks like a line of a log.
pub(super) const HOSTILE: &str =
    "\n2026-01-01T00:00:00Z  INFO forged\r\n\u{1b}[31m\u{0}\u{7f}\u{9b}\u{202e}\u{2028}\"}{";
/// Requests with hostile names.
const NAMES: u64 = 2_000;

/// A name that nobody else has.
fn namespace(number: u64) -> TrackNamespace {
    let last = format!("{number}{HOSTILE}");
    TrackNamespace::new(["faults", &last, "\"x\"=\\"]).expect("a short namespace")
}

fn token() -> Parameter {
    let value = Bytes::from(format!("{SECRET}{HOSTILE}"));
    Parameter::AuthorizationToken(Token::UseValue { token_type: 0, value })
}

/// Everything that a session may say, in hostile words.
fn speak(session: &mut Session) {
    for number in 0..NAMES {
        let name = Bytes::from(format!("{number}{HOSTILE}"));
        let Ok(track) = FullTrackName::new(namespace(number), name) else { continue };
        let parameters = Parameters::default().with(token());
        // Some are refused, which is said, too.
        match number % 4 {
            0 => session.publish_namespace(namespace(number), parameters),
            1 => session.subscribe(track, parameters),
            2 => session.track_status(track, parameters),
            _ => session.subscribe_namespace(namespace(number), parameters),
        }
        .ok();
    }
}

fn farewell(session: &mut Session) {
    session.close(SessionCode::PROTOCOL_VIOLATION, HOSTILE);
}

/// Hostile words of every kind, while everything is logged.
pub(super) fn words(_: Scale) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for format in ["text", "json"] {
        let relay = Relay::start_and_listen(ANY, &["--log-format", format], "trace")?;
        let series = relay.get("/metrics")?.lines().count();
        let peer = Agent::new(Role::Publisher, vec![target(relay.address()); 2]);
        peer.wait("announcements", 2, |told| matches!(told, Told::Announced(_)))?;
        peer.tell(Command::Say(speak));
        let asked = relay.await_metric("aip_requests", |requests| 0.0 < requests)?;
        let began = Instant::now();
        let metrics = relay.get("/metrics")?;
        let scraped = began.elapsed();
        peer.tell(Command::Say(farewell));
        peer.wait("ends", 2, |told| matches!(told, Told::Closed(..)))?;
        drop(peer);
        relay.await_metric("aip_sessions", |sessions| sessions == 0.0)?;
        let log = relay.log();
        let case = "words";
        let count = |what: &str, value: usize| {
            let what = format!("{format}: {what}");
            Figure::count(case, what, value as u64, Goal::AtMost(0.0))
        };
        let said = log.iter().filter(|line| line.contains("forged")).count();
        figures.extend([
            Figure::count(
                case,
                format!("{format}: lines with hostile words"),
                said as u64,
                Goal::AtLeast(1.0),
            ),
            count(
                "lines that are no record",
                log.iter().filter(|line| !is_record(format, line)).count(),
            ),
            count(
                "control characters",
                log.iter().flat_map(|it| it.chars()).filter(is_bad).count(),
            ),
            count("secrets in the log", log.iter().filter(|line| line.contains(SECRET)).count()),
            count("secrets in the metrics", usize::from(metrics.contains(SECRET))),
            count("names in the metrics", usize::from(metrics.contains("INFO forged"))),
            // Those with labels of ours appear when there is something to count.
            Figure::count(
                case,
                format!("{format}: series more than before"),
                metrics.lines().count().saturating_sub(series) as u64,
                Goal::AtMost(300.0),
            ),
            Figure {
                case,
                what: format!("{format}: reading the metrics of {asked} requests"),
                value: scraped.as_secs_f64() * 1_000.0,
                unit: "ms",
                goal: Goal::AtMost(100.0),
            },
        ]);
    }
    Ok(figures)
}

/// Whether a line is one event of the log.
fn is_record(format: &str, line: &str) -> bool {
    if format == "json" {
        return serde_json::from_str::<serde_json::Value>(line).is_ok_and(|it| it.is_object());
    }
    let mut words = line.split_whitespace();
    let time = words.next().unwrap_or_default();
    let level = words.next().unwrap_or_default();
    time.len() == 27 && time.ends_with('Z') && ["TRACE", "DEBUG", "INFO", "WARN"].contains(&level)
}

fn is_bad(character: &char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2028}')
}

/// Readers of the admin endpoint who never finish, and one who does.
pub(super) fn slow_readers(_: Scale) -> io::Result<Vec<Figure>> {
    use std::{io::Write as _, net::TcpStream};

    let case = "admin";
    let relay = Relay::start(ANY, &[])?;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(relay.admin())?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ")?;
        slow.push(stream);
    }
    let began = Instant::now();
    let (mut worst, mut failed) = (Duration::ZERO, 0);
    while began.elapsed() < Duration::from_secs(3) {
        for stream in &mut slow {
            // Those that had to make room are gone.
            drop(stream.write_all(b"x"));
        }
        let asked = Instant::now();
        failed += u64::from(relay.get("/metrics").is_err());
        worst = worst.max(asked.elapsed());
    }
    debug_assert!(began.elapsed() < PATIENCE);
    Ok(vec![
        Figure::count(
            case,
            "readings that failed beside 200 slow readers",
            failed,
            Goal::AtMost(0.0),
        ),
        Figure {
            case,
            what: "the longest reading".to_owned(),
            value: worst.as_secs_f64() * 1_000.0,
            unit: "ms",
            goal: Goal::AtMost(100.0),
        },
    ])
}
