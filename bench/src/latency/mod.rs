//! What one exchange takes, through our relay and through bare quiche, in turn, on two busy cores:
//! one serves, the other is whoever asks and whoever answers.
//!
//! Nobody sleeps: what is measured is the work on the way and not how long the system takes to wake
//! somebody, which costs more than all of it.

mod end;
mod exchange;
mod server;
mod speaker;

use std::{fs, io, path::PathBuf, time::Duration};

use serde::Serialize;

use self::{
    exchange::{CallThrough, Echo, Exchange, ObjectThrough, Passed},
    server::{BareServer, RelayServer},
};
use crate::control::affinity;

/// Of so many exchanges one more is made before, and not counted.
const WARM_UP: usize = 5;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Exchanges of each kind in each round.
    pub exchanges: usize,
    /// Rounds, in which all kinds have their turn.
    pub rounds: usize,
    /// Bytes of an object, and of a call's question and answer.
    pub size: usize,
    /// The core that serves.
    pub relay_core: usize,
    /// The core of those who ask and answer.
    pub load_core: usize,
}

/// What is exchanged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One object to a server of bare quiche and back.
    Echo,
    /// One object from a publisher through our relay to a subscriber.
    Object,
    /// A question from one connection to another and the answer back, both passed on by bare quiche.
    Passed,
    /// A call and its answer through our relay.
    Call,
}

impl Kind {
    /// All, each after what it is measured by.
    pub const ALL: [Self; 4] = [Self::Echo, Self::Object, Self::Passed, Self::Call];

    /// What it is, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "bare quiche: an object there and back",
            Self::Object => "relay: an object from publisher to subscriber",
            Self::Passed => "bare quiche: a question passed on, and its answer",
            Self::Call => "relay: a call and its answer",
        }
    }
}

/// Times of one kind of exchange, in microseconds: medians of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// What is exchanged.
    pub kind: Kind,
    /// Half of all took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
}

/// What came of it, in the order of [`Kind::ALL`].
#[derive(Clone, Debug, Serialize)]
pub struct Latencies(pub Vec<Times>);

impl Latencies {
    /// An object's way to a subscriber in round trips of bare quiche, and a call in questions that
    /// bare quiche passes on: of medians.
    pub fn ratios(&self) -> Option<(f64, f64)> {
        let [echo, object, passed, call] = self.0[..] else { return None };
        Some((object.p50 / echo.p50, call.p50 / passed.p50))
    }
}

/// Where a certificate is.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Runs all of it.
///
/// # Errors
/// If there is no second core, or something does not come up.
pub fn run(plan: &Plan) -> io::Result<Latencies> {
    let folder = tempfile::tempdir()?;
    let made =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
    let place = |name| folder.path().join(name);
    let files = Files { certificate: place("cert.pem"), key: place("key.pem") };
    fs::write(&files.certificate, made.cert.pem())?;
    fs::write(&files.key, made.signing_key.serialize_pem())?;
    affinity::pin(plan.load_core)?;
    let mut rounds: [Vec<Times>; 4] = Default::default();
    for _ in 0..plan.rounds {
        for (kind, times) in Kind::ALL.into_iter().zip(&mut rounds) {
            let taken = measure(kind, plan, &files)?;
            times.push(Times { kind, p50: quantile(&taken, 0.5), p99: quantile(&taken, 0.99) });
        }
    }
    let middle = |times: &Vec<Times>| {
        let of = |figure: fn(&Times) -> f64| {
            let mut values: Vec<f64> = times.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        let kind = times.first()?.kind;
        Some(Times { kind, p50: of(|it| it.p50)?, p99: of(|it| it.p99)? })
    };
    Ok(Latencies(rounds.iter().filter_map(middle).collect()))
}

/// Sorted times of one kind of exchange.
fn measure(kind: Kind, plan: &Plan, files: &Files) -> io::Result<Vec<Duration>> {
    let core = plan.relay_core;
    match kind {
        Kind::Echo => {
            let server = BareServer::start(core, files, false)?;
            repeat(plan, Echo::new(server.address(), plan.size)?)
        }
        Kind::Object => {
            let server = RelayServer::start(core, files)?;
            repeat(plan, ObjectThrough::new(server.address(), plan.size)?)
        }
        Kind::Passed => {
            let server = BareServer::start(core, files, true)?;
            repeat(plan, Passed::new(server.address(), plan.size)?)
        }
        Kind::Call => {
            let server = RelayServer::start(core, files)?;
            repeat(plan, CallThrough::new(server.address(), plan.size)?)
        }
    }
}

fn repeat(plan: &Plan, mut exchange: impl Exchange) -> io::Result<Vec<Duration>> {
    for _ in 0..plan.exchanges / WARM_UP {
        exchange.exchange()?;
    }
    let taken: io::Result<Vec<Duration>> =
        (0..plan.exchanges).map(|_| exchange.exchange()).collect();
    let mut taken = taken?;
    taken.sort_unstable();
    Ok(taken)
}

/// A share of sorted times took no longer than this, in microseconds.
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count is one"
    )]
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).map_or(0.0, |it| it.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_exchanged() {
        let plan = Plan { exchanges: 20, rounds: 1, size: 1_200, relay_core: 0, load_core: 0 };
        let latencies = run(&plan).unwrap();
        assert_eq!(latencies.0.iter().map(|times| times.kind).collect::<Vec<_>>(), Kind::ALL);
        let (object, call) = latencies.ratios().unwrap();
        assert!(0.0 < object && 0.0 < call);
    }

    #[test]
    fn quantiles_are_of_sorted_times() {
        let times: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!((quantile(&times, 0.5).round(), quantile(&times, 0.99).round()), (51.0, 100.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
