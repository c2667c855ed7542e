//! Runs cases side by side and tells of each in order.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use aip_codec::Version;

use super::{
    case::Case,
    failure::{Failure, Outcome},
    network::Network,
    peer::Peer,
    stage::Stage,
    target::Endpoint,
};

/// One case in one draft, run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Where it stands in the order, from 0.
    pub index: usize,
    /// The case.
    pub case: &'a Case,
    /// The draft.
    pub version: Version,
    /// Why it did not pass, if it did not.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
}

/// Which of `drafts` the relay negotiates.
///
/// # Errors
/// Why not even a handshake came about, if none did.
pub fn probe(endpoint: &Endpoint, drafts: &[Version]) -> Outcome<Vec<Version>> {
    let network = network()?;
    let mut spoken = Vec::new();
    let mut last = None;
    for &version in drafts {
        match Peer::bare(&network, endpoint, version) {
            Ok(_) => spoken.push(version),
            Err(failure) => last = Some(failure),
        }
    }
    match last {
        Some(failure) if spoken.is_empty() => Err(failure),
        _ => Ok(spoken),
    }
}

fn network() -> Outcome<Rc<Network>> {
    Network::new().map_err(|error| Failure::new("a poll", error.to_string()))
}

/// Every case of `cases` that a draft has, drafts in the order given, over WebTransport or not.
pub fn plan<'a>(
    cases: &'a [Case],
    drafts: &[Version],
    webtransport: bool,
) -> Vec<(&'a Case, Version)> {
    let of = |version: &Version| {
        let version = *version;
        cases
            .iter()
            .filter(move |case| case.is_for(version, webtransport))
            .map(move |case| (case, version))
    };
    drafts.iter().flat_map(of).collect()
}

/// Runs `plan` on `jobs` threads and hands each result to `tell`, in the plan's order.
pub fn run<'a>(
    endpoint: &Endpoint,
    plan: &[(&'a Case, Version)],
    jobs: usize,
    mut tell: impl FnMut(Run<'a>),
) {
    // Cases that wait for the relay's timers begin first, so that they do not come one by one at
    // the end.
    let (alone, mut together): (Vec<usize>, Vec<usize>) =
        (0..plan.len()).partition(|&index| plan[index].0.alone);
    together.sort_by_key(|&index| !plan[index].0.slow);
    let mut waiting = BTreeMap::new();
    let mut told = 0;
    for (order, jobs) in [(together, jobs), (alone, 1)] {
        phase(endpoint, plan, &order, jobs, |run| {
            waiting.insert(run.index, run);
            while let Some(run) = waiting.remove(&told) {
                told += 1;
                tell(run);
            }
        });
    }
}

/// Runs the cases of `plan` that `order` names and hands on each result as it comes.
fn phase<'a>(
    endpoint: &Endpoint,
    plan: &[(&'a Case, Version)],
    order: &[usize],
    jobs: usize,
    mut tell: impl FnMut(Run<'a>),
) {
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(order.len()) {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                let mut worker = Worker::new(endpoint);
                while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (case, version) = plan[index];
                    let began = Instant::now();
                    let outcome = worker.run(case, version);
                    let duration = began.elapsed();
                    // The receiver lives as long as this scope.
                    drop(done.send(Run { index, case, version, outcome, duration }));
                }
            });
        }
        drop(done);
        results.iter().for_each(&mut tell);
    });
}

/// One thread's connections: those of the case that runs, and an innocent one for each draft.
struct Worker<'a> {
    endpoint: &'a Endpoint,
    network: Outcome<Rc<Network>>,
    canaries: BTreeMap<Version, Peer>,
}

impl<'a> Worker<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        Self { endpoint, network: network(), canaries: BTreeMap::new() }
    }

    fn run(&mut self, case: &Case, version: Version) -> Outcome {
        let network = Rc::clone(self.network.as_ref().map_err(Clone::clone)?);
        if case.hostile && !self.canaries.contains_key(&version) {
            let canary = Peer::session(&network, self.endpoint, version)?;
            self.canaries.insert(version, canary);
        }
        let outcome = (case.run)(&Stage::new(&network, self.endpoint, version));
        if !case.hostile {
            return outcome;
        }
        let canary = self.canaries.get(&version).map_or(Ok(()), Peer::answers);
        if canary.is_err() {
            // The next case gets one that lives.
            self.canaries.remove(&version);
        }
        outcome?;
        canary.map_err(|failure| {
            let expected = format!("for an innocent session: {}", failure.expected);
            Failure::new(expected, failure.received)
        })
    }
}
