//! Relays side by side: the same load on each in turn, each alone on a core, all in one run.

pub mod cell;
pub mod contestant;
pub mod outcome;
pub mod plot;
pub mod run;
pub mod table;

use std::{fs, io, path::PathBuf};

use self::{
    cell::{Cell, Reach},
    contestant::{Contestant, Kind},
    outcome::{Comparison, Idle, Row},
};

/// What a comparison needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where `aip-relay`, `aip-load` and `aip-control` are.
    pub programs: PathBuf,
    /// Where other people's relays are installed.
    pub peers: PathBuf,
    /// What is asked of each.
    pub cells: Vec<Cell>,
    /// How often, in alternating order.
    pub rounds: usize,
    /// Measured seconds of each run.
    pub seconds: f64,
    /// The core that a relay runs on.
    pub relay_core: usize,
    /// The core that the load runs on.
    pub load_core: usize,
    /// Sessions of the memory measurement; 0 leaves it out.
    pub idle_sessions: usize,
}

/// Runs all of it. `say` is told what goes on.
///
/// # Errors
/// If a certificate cannot be made, or our own programs are missing.
pub fn compare(
    plan: &Plan,
    contestants: &[Contestant],
    mut say: impl FnMut(&str),
) -> io::Result<Comparison> {
    let folder = tempfile::tempdir()?;
    let stage = run::Stage::new(plan, folder.path())?;
    let mut comparison = Comparison::new(plan, contestants);
    for round in 0..plan.rounds {
        for cell in &plan.cells {
            let mut order: Vec<&Contestant> =
                contestants.iter().filter(|one| takes_part(one, cell)).collect();
            // What a run leaves behind in caches and clocks falls on another each time.
            if round % 2 == 1 {
                order.reverse();
            }
            for contestant in order {
                let row = stage.measure(contestant, cell, round);
                say(&describe(&row));
                comparison.rows.push(row);
            }
        }
    }
    if 0 < plan.idle_sessions {
        for contestant in contestants.iter().filter(|one| one.kind != Kind::Udp) {
            let bytes = stage.idle(contestant, plan.idle_sessions);
            say(&format!("{}: {bytes:?} bytes per idle session", contestant.name));
            let name = contestant.name.to_owned();
            let (bytes, failed) = match bytes {
                Ok(bytes) => (Some(bytes), None),
                Err(reason) => (None, Some(reason)),
            };
            comparison.idle.push(Idle {
                contestant: name,
                sessions: plan.idle_sessions,
                bytes,
                failed,
            });
        }
    }
    comparison.conclude();
    Ok(comparison)
}

fn takes_part(contestant: &Contestant, cell: &Cell) -> bool {
    let controls = [Kind::Ours, Kind::Quiche, Kind::Udp];
    cell.subscribers <= contestant.subscribers_max
        && (cell.reach == Reach::Everyone || controls.contains(&contestant.kind))
}

fn describe(row: &Row) -> String {
    let what = format!("{} × {}, {}", row.cell, row.subscribers, row.contestant);
    match (&row.failed, row.cpu_microseconds) {
        (Some(reason), _) => format!("{what}: {reason}"),
        (None, Some(cpu)) => format!("{what}: {cpu:.2} µs of CPU per delivery"),
        (None, None) => format!("{what}: nothing delivered"),
    }
}

/// Writes what came of it into a folder: JSON, a Markdown page and its plots.
///
/// # Errors
/// If the folder cannot be written to, or a plot not be drawn.
pub fn write(comparison: &Comparison, folder: &std::path::Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_string_pretty(comparison)?;
    fs::write(folder.join("results.json"), json + "\n")?;
    let mut page = table::page(comparison);
    for (name, svg) in plot::all(comparison).map_err(io::Error::other)? {
        fs::write(folder.join(&name), svg)?;
        page.push_str(&format!("\n![{name}]({name})\n"));
    }
    fs::write(folder.join("README.md"), page)
}
