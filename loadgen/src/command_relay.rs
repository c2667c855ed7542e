//! `aip-load relay` on the command line.

use std::{path::PathBuf, time::Duration};

use aip_engine::io::Target;
use aip_load::{
    check, duration,
    interrupt::Interrupt,
    relay::{self, Churn, Delivery, Plan, Shape},
    report::Report,
    schedule::{Arrivals, Spacing},
    watch::Watch,
};
use clap::Args;

use crate::arguments::{Output, TrustArguments, moment};

pub(crate) const EXAMPLES: &str = "\
Examples:
  Speech to 200 subscribers of a relay on this machine, watching its process:
    aip-load relay --relay moqt://127.0.0.1:4443 --insecure --shape audio \\
        --subscribers 200 --watch aip-relay
  4 KiB objects, 100 a second by Poisson, published at one relay and read at another, as a check:
    aip-load relay --relay moqt://b.example:4443 --origin moqt://a.example:4443 --ca ca.pem \\
        --size 4096 --arrivals poisson:100 --json run.json --assert 'p99 < 50ms, lost == 0'";

/// When load counts.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Phases {
    /// The time that figures are made of.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// Load before that, which does not count.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration::parse)]
    warm_up: Duration,
    /// Load after that, which does not count.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    cool_down: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct RelayArguments {
    /// The subscribers' relay: moqt://HOST:PORT. More than one: subscribers in turn.
    #[arg(long, value_name = "URL", required = true)]
    relay: Vec<String>,
    /// The publisher's relay, if it is another than the first --relay.
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
    /// A ready shape; --size, --arrivals and --group change parts of it.
    #[arg(long, value_name = "SHAPE", default_value = "packet")]
    shape: Shape,
    /// Bytes of a payload, at least 36.
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// When objects are due: constant:RATE, poisson:RATE, ramp:A..B, step:A..B/N,
    /// spike:A^B@AT+LENGTH, trace:FILE; poisson- before a shape makes its gaps random.
    #[arg(long, value_name = "ARRIVALS")]
    arrivals: Option<Arrivals>,
    /// Objects of a group, which is a stream.
    #[arg(long, value_name = "NUMBER")]
    group: Option<u64>,
    /// How objects travel.
    #[arg(long, default_value = "stream")]
    delivery: Delivery,
    /// Subscribers, each with a connection of its own; 1 to 10,000.
    #[arg(
        long,
        short,
        value_name = "NUMBER",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    subscribers: u32,
    /// Connections begun a second.
    #[arg(long, value_name = "RATE", default_value_t = 500.0)]
    connect_rate: f64,
    /// Subscriptions ended and begun again, a second altogether, while objects flow.
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    churn_subscribe: f64,
    /// Connections closed and opened again, a second altogether, while objects flow.
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    churn_reconnect: f64,
    /// Drafts to offer, first choice first: 18 to 22. All by default.
    #[arg(long, value_name = "NUMBER", value_delimiter = ',')]
    draft: Vec<u8>,
    #[command(flatten)]
    phases: Phases,
    /// How long what is under way is waited for in the end.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration::parse)]
    drain: Duration,
    /// How long everybody may take to connect and subscribe.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    setup: Duration,
    /// A delivery that takes longer counts as late.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    late: Option<Duration>,
    /// UDP sockets that the connections share, in turn. One is cheapest for the generator; a relay
    /// that spreads its clients over threads by their address needs more.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    sockets: usize,
    /// Watch a process's CPU, memory and context switches, by number or program name.
    #[arg(long, value_name = "PID|NAME")]
    watch: Vec<String>,
    /// Seed of arrivals and payloads.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The run is invalid if 1 of 100 objects is published later than this after it was due.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = duration::parse)]
    lag_max: Duration,
    /// Publish the first object at this time, in seconds since 1970, and not as soon as all are
    /// ready: several processes and hosts can begin together.
    #[arg(long, value_name = "SECONDS", value_parser = moment)]
    begin_at: Option<u64>,
    /// Write a line for each subscriber, as comma-separated values.
    #[arg(long, value_name = "FILE")]
    subscribers_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Runs `aip-load relay`.
///
/// # Errors
/// Why there is no report, in words.
pub(crate) fn run(asked: &RelayArguments) -> Result<Report, String> {
    let trust = asked.trust.trust()?;
    let target = |url: &String| Target::new(url, trust.clone()).map_err(|error| error.to_string());
    let relays = asked.relay.iter().map(target).collect::<Result<Vec<_>, _>>()?;
    let origin = match &asked.origin {
        Some(url) => target(url)?,
        None => relays.first().cloned().ok_or("--relay is needed")?,
    };
    let watch = Watch::new(&asked.watch)?;
    let limits = check::Limits {
        lag_p99_max: u64::try_from(asked.lag_max.as_nanos()).unwrap_or(u64::MAX),
        ..check::Limits::default()
    };
    let interrupt = Interrupt::on_signals().map_err(|error| error.to_string())?;
    let title = format!("aip-load relay: {}", asked.relay.join(", "));
    let options = relay::Options {
        origin,
        relays,
        seed: asked.seed,
        sockets: asked.sockets,
        watch,
        limits,
        begin_at: asked.begin_at,
        viewer: asked.output.viewer(&title, &interrupt),
        interrupt,
        subscribers_file: asked.subscribers_file.clone(),
    };
    relay::run(plan(asked), options).map_err(|error| error.to_string())
}

fn plan(asked: &RelayArguments) -> Plan {
    let (size, rate, group) = asked.shape.figures();
    let constant = || Arrivals {
        shape: aip_load::schedule::Shape::Constant(f64::from(rate)),
        spacing: Spacing::Even,
    };
    Plan {
        size: asked.size.unwrap_or(size),
        arrivals: asked.arrivals.clone().unwrap_or_else(constant),
        group_length: asked.group.unwrap_or(group),
        delivery: asked.delivery,
        subscribers: asked.subscribers as usize,
        connect_rate: asked.connect_rate,
        churn: Churn { subscribe: asked.churn_subscribe, reconnect: asked.churn_reconnect },
        drafts: asked.draft.clone(),
        warm_up: asked.phases.warm_up,
        measured: asked.phases.duration,
        cool_down: asked.phases.cool_down,
        drain: asked.drain,
        setup: asked.setup,
        late_nanoseconds: asked.late.and_then(|late| u64::try_from(late.as_nanos()).ok()),
    }
}
