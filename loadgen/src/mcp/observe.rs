//! Looks at a run while it goes on: at whom it watches, at this process, for whoever looks.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::{
    listen,
    run::{Options, Shared, UNDER_WAY_MAX},
};
use crate::{measure::Phase, process, progress::Progress, report};

/// Between looks.
const LOOK: Duration = Duration::from_millis(100);
/// Looks for each time that others are shown what goes on.
const SHOWN_EVERY: u32 = 3;

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The share of all its cores that this process was busy in the measured part.
    pub(super) busy: f64,
    /// The measured time; less than the plan's if the run was interrupted.
    pub(super) measured: Duration,
}

/// Looks until the run is over.
pub(super) async fn watch(
    shared: &Shared,
    driving: &JoinHandle<()>,
    options: &mut Options,
) -> Seen {
    let plan = &shared.plan;
    let (mut begun, mut busy) = (None, None);
    let mut interrupted = None;
    let mut ticks = tokio::time::interval(LOOK);
    let mut looks = 0_u32;
    while !driving.is_finished() {
        ticks.tick().await;
        let elapsed = shared.since();
        if interrupted.is_none() && options.interrupt.is_set() {
            interrupted = Some(elapsed);
        }
        if begun.is_none() && plan.warm_up <= elapsed {
            options.watch.begin();
            begun = Some((elapsed, process::cpu_seconds()));
        }
        let end = interrupted.unwrap_or(Duration::MAX).min(plan.warm_up + plan.duration);
        if let (Some((since, before)), None) = (begun, busy) {
            options.watch.look();
            if end <= elapsed {
                let seconds = (elapsed - since).as_secs_f64();
                busy = Some((process::cpu_seconds() - before) / seconds.max(1e-3));
            }
        }
        if options.viewer.looks() && looks.is_multiple_of(SHOWN_EVERY) {
            options.viewer.show(&progress(shared, elapsed, interrupted.is_some()));
        }
        looks += 1;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let measured =
        interrupted.map_or(plan.duration, |at| at.saturating_sub(plan.warm_up).min(plan.duration));
    Seen { busy: busy.unwrap_or_default() / cores as f64, measured }
}

fn progress(shared: &Shared, elapsed: Duration, interrupted: bool) -> Progress {
    let phase = shared.recorder.phase(elapsed);
    let stage = match phase {
        _ if interrupted || shared.total() <= elapsed => "waiting for answers",
        Phase::WarmUp | Phase::Measured | Phase::CoolDown => phase.name(),
    };
    let under_way = UNDER_WAY_MAX - shared.under_way.available_permits();
    let mut facts = vec![
        ("agents", report::count(shared.agents.len() as u64)),
        ("requests under way", report::count(under_way as u64)),
    ];
    if 0 < shared.plan.listeners {
        let heard = listen::lock(&shared.ear).count();
        facts.push(("notifications heard", report::count(heard)));
    }
    let mut progress = Progress {
        stage: stage.to_owned(),
        elapsed,
        total: shared.total(),
        facts,
        ..Progress::default()
    };
    shared.recorder.show(elapsed, &mut progress);
    progress
}
