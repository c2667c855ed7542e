//! `aip-load ceiling` on the command line.

use std::{path::PathBuf, process::Command};

use aip_load::{
    assertion::{self, Assertion},
    ceiling::{Search, Settings},
    interrupt::Interrupt,
    report::{self, Report},
};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

#[derive(Args, Debug)]
pub(crate) struct CeilingArguments {
    /// What a run must meet: 'p99 < 20ms, errors < 0.1%'.
    #[arg(long, value_name = "CONDITIONS")]
    objective: String,
    /// The option that is varied; {} stands for the number.
    #[arg(
        long,
        value_name = "OPTION",
        default_value = "--arrivals=constant:{}",
        allow_hyphen_values = true
    )]
    vary: String,
    /// The number to begin with.
    #[arg(long, value_name = "NUMBER", default_value_t = 10.0)]
    min: f64,
    /// The highest number that is tried.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000.0)]
    max: f64,
    /// How close, in per cent, what passed and what failed are in the end.
    #[arg(long, value_name = "PER CENT", default_value_t = 5.0)]
    precision: f64,
    /// Runs of each number, each with a seed of its own, of which most decide; odd.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    repeat: u32,
    /// Write what was found and every run's outcome as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The subcommand to run, and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// One run.
struct Trial {
    number: String,
    met: bool,
    remark: String,
    report: Report,
}

/// Runs `aip-load ceiling`: what to say, and whether any rate passed and every run was valid.
///
/// # Errors
/// Why nothing was found, in words.
pub(crate) fn run(asked: &CeilingArguments) -> Result<(String, bool, bool), String> {
    let objective = assertion::parse_all(&asked.objective).map_err(|error| error.to_string())?;
    if !asked.vary.contains("{}") {
        return Err("--vary must hold {}, which stands for the number".to_owned());
    }
    if asked.repeat.is_multiple_of(2) {
        return Err("--repeat must be odd, so that most can decide".to_owned());
    }
    let positive = |number: f64| number.is_finite() && 0.0 < number;
    if !positive(asked.min) || !positive(asked.max) || !positive(asked.precision) {
        return Err("--min, --max and --precision must be above 0".to_owned());
    }
    let (min, max, precision) = (asked.min, asked.max, asked.precision / 100.0);
    let mut search = Search::new(Settings { min, max, precision, repeat: asked.repeat });
    let mut trials = Vec::new();
    let interrupt = Interrupt::on_signals().map_err(|error| error.to_string())?;
    // Subscribers and agents are whole; rates lose nothing by it.
    while let Some(number) = search.rate().map(f64::round) {
        let trial = try_one(asked, &objective, number, trials.len())?;
        if interrupt.is_set() {
            // The signal went to the run as well: it is no answer.
            break;
        }
        crate::remark(&format!("{}: {}", trial.number, trial.remark));
        search.record(trial.met);
        trials.push(trial);
    }
    let found = search.found();
    let valid = !interrupt.is_set()
        && trials.iter().all(|trial| trial.met || trial.report.validity.is_valid());
    let mut text = table(&trials);
    let shown =
        |number: Option<f64>| number.map_or_else(|| "none".to_owned(), |it| format!("{it:.0}"));
    text.push_str(&format!(
        "\nceiling for `{}`: {} ({} of {} runs met it); {} did not",
        asked.objective,
        shown(found.passed),
        found.votes.0,
        found.votes.1,
        shown(found.failed),
    ));
    if interrupt.is_set() {
        text.push_str("\ninterrupted: this is what was known by then");
    }
    if !valid && !interrupt.is_set() {
        text.push_str(
            "\nINVALID: a run failed because the generator could not keep to its plan: \
                       the target's ceiling may be higher",
        );
    }
    if let Some(path) = &asked.json {
        let outcome = serde_json::json!({
            "objective": asked.objective,
            "vary": asked.vary,
            "passed": found.passed,
            "failed": found.failed,
            "votes": [found.votes.0, found.votes.1],
            "valid": valid,
            "interrupted": interrupt.is_set(),
            "trials": trials.iter().map(|trial| serde_json::json!({
                "number": trial.number, "met": trial.met, "remark": trial.remark,
                "report": trial.report,
            })).collect::<Vec<_>>(),
        });
        std::fs::write(path, outcome.to_string())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok((text, found.passed.is_some(), valid))
}

fn try_one(
    asked: &CeilingArguments,
    objective: &[Assertion],
    number: f64,
    trial: usize,
) -> Result<Trial, String> {
    let number = format!("{number:.0}");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let (subcommand, arguments) = asked.command.split_first().ok_or("a subcommand is needed")?;
    let varied = asked.vary.replace("{}", &number);
    let output = Command::new(program)
        .arg(subcommand)
        .args(varied.split_whitespace())
        .args(["--quiet", "--json", "-", "--seed", &(trial + 1).to_string()])
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    let report: Report = serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("with {varied}: {}", said.trim().lines().last().unwrap_or("no report"))
    })?;
    let failed = objective.iter().map(|one| one.check(&report)).find(|verdict| !verdict.holds);
    let invalid = report.validity.invalid.first();
    let remark = match (&failed, invalid) {
        (_, Some(reason)) => format!("invalid: {reason}"),
        (Some(verdict), None) => verdict.text.clone(),
        (None, None) => "met".to_owned(),
    };
    let met = failed.is_none() && invalid.is_none();
    Ok(Trial { number, met, remark, report })
}

fn table(trials: &[Trial]) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(["number", "rate /s", "p50", "p99", "max", "met", "why not"]);
    for trial in trials {
        let summary = trial.report.main().map(|series| series.summary.clone()).unwrap_or_default();
        let why = if trial.met { String::new() } else { trial.remark.chars().take(60).collect() };
        table.add_row([
            trial.number.clone(),
            format!("{:.1}", trial.report.rate()),
            report::time(summary.p50),
            report::time(summary.p99),
            report::time(summary.max),
            if trial.met { "yes" } else { "no" }.to_owned(),
            why,
        ]);
    }
    for column in table.column_iter_mut().take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
