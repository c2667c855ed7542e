//! MCP servers: one that freezes, and the demonstration's.

use std::path::PathBuf;

use aip_load::report::Report;

use crate::{
    server::{FREEZE, RESOURCE, with_server},
    support::{RelayNode, aip_load, report_of},
};

/// The share of answers that took at least half of the freeze.
fn share_frozen(report: &Report) -> f64 {
    let times = report.main().unwrap().times().unwrap();
    let half = u64::try_from(FREEZE.as_nanos() / 2).unwrap();
    let slow: u64 =
        times.recorded().filter(|(time, _)| half <= *time).map(|(_, count)| count).sum();
    slow as f64 / times.count() as f64
}

const SHORT: [&str; 7] = ["--quiet", "--json", "-", "--warm-up", "100ms", "--duration", "4s"];

#[test]
fn a_target_that_freezes_for_a_second_shows_in_the_tail() {
    let open = with_server(|url, _| {
        let rate = ["mcp", "--url", url, "--tool", "echo", "--arrivals", "constant:100"];
        report_of(&aip_load(&[&rate[..], &SHORT].concat()))
    });
    assert_eq!(open.counts.ok, 400, "{:?}", open.counts);
    // Half of the second's 100 requests were due in its first half, and waited for the other.
    let share = share_frozen(&open);
    assert!(0.11 <= share, "{share}: those who would have come meanwhile are missing");
    assert!(500_000_000 <= open.main().unwrap().summary.p90);

    let closed = with_server(|url, _| {
        let one = ["mcp", "--url", url, "--tool", "echo", "--closed", "--agents", "1"];
        report_of(&aip_load(&[&one[..], &SHORT].concat()))
    });
    assert!(0 < closed.counts.ok && share_frozen(&closed) < share / 4.0, "a closed loop hides it");
    let warned = closed.validity.warnings.iter().any(|warning| warning.contains("closed loop"));
    assert!(warned, "and says so");
    assert_eq!(closed.main().unwrap().name, "latency (closed loop)");
}

#[test]
fn answers_are_checked_and_tools_that_may_change_something_are_not_called() {
    with_server(|url, _| {
        let common = ["mcp", "--url", url, "--arrivals", "constant:50", "--quiet", "--json", "-"];
        let times = ["--warm-up", "100ms", "--duration", "1s"];
        let report = report_of(&aip_load(&[&common[..], &times].concat()));
        let titles: Vec<_> = report.series.iter().map(|series| series.title()).collect();
        assert!(titles.contains(&"latency[method=tools/call,tool=echo]".to_owned()), "{titles:?}");
        assert!(!titles.iter().any(|title| title.contains("destroy")), "{titles:?}");

        let file = tempfile::NamedTempFile::new().unwrap();
        let plan = "[[request]]\nmethod = 'tools/call'\ntool = 'echo'\nexpect = '{{sequence}}!'\n\
                    arguments = { text = '{{sequence}}!' }\n\
                    [[request]]\nmethod = 'tools/call'\ntool = 'echo'\nexpect = 'never said'\n\
                    [[request]]\nmethod = 'prompts/list'\n";
        std::fs::write(file.path(), plan).unwrap();
        let plan = ["--plan", file.path().to_str().unwrap()];
        let report = report_of(&aip_load(&[&common[..], &times, &plan].concat()));
        let counts = &report.counts;
        assert!(0 < counts.ok && 0 < counts.wrong, "{counts:?}");
        assert_eq!(counts.errors.keys().collect::<Vec<_>>(), ["JSON-RPC -32601"]);
        assert_eq!(counts.ok + counts.wrong + counts.errors_total(), counts.expected);
    });
}

#[test]
fn each_listener_hears_of_each_change() {
    let report = with_server(|url, _| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let plan = format!(
            "agents = 5\nlisteners = 20\nlisten = ['{RESOURCE}']\narrivals = 'constant:10'\n\
             warm_up = '500ms'\nduration = '3s'\n[trigger]\ntool = 'touch'\nevery = '500ms'\n\
             [[request]]\nmethod = 'tools/list'\n"
        );
        std::fs::write(file.path(), plan).unwrap();
        let plan = ["mcp", "--url", url, "--plan", file.path().to_str().unwrap()];
        report_of(&aip_load(&[&plan[..], &["--quiet", "--json", "-"]].concat()))
    });
    let heard = report.series.iter().find(|series| series.name == "heard").unwrap();
    let last = report.series.iter().find(|series| series.name == "heard by the last").unwrap();
    assert_eq!(report.figures["notifications lost"], 0.0, "{:?}", report.counts);
    assert_eq!(report.figures["notifications heard again"], 0.0);
    // From 500 ms on, and no later than 500 ms before the end.
    assert!((5..=6).contains(&last.summary.count), "{}", last.summary.count);
    assert_eq!(heard.summary.count, 20 * last.summary.count);
    assert_eq!(report.counts.errors_total(), 0, "{:?}", report.counts.errors);
}

#[test]
fn agents_are_at_several_endpoints_in_turn() {
    let report = with_server(|url, _| {
        with_server(|other, _| {
            let both = ["mcp", "--url", url, "--url", other, "--tool", "echo", "--agents", "4"];
            let times = ["--arrivals", "constant:40", "--duration", "1s", "--warm-up", "100ms"];
            report_of(&aip_load(&[&both[..], &times, &["--quiet", "--json", "-"]].concat()))
        })
    });
    let places = report.series.iter().filter(|series| series.labels.contains_key("relay"));
    let counts: Vec<_> = places.map(|series| series.summary.count).collect();
    assert_eq!(counts, [20, 20], "of {} agents half are at each", report.plan["agents"]);
}

/// A program of this workspace, built beside the tests.
fn program(name: &str) -> String {
    let mut path = PathBuf::from(env!("CARGO_BIN_EXE_aip-load"));
    path.set_file_name(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace --bins", path.display());
    path.to_str().unwrap().to_owned()
}

fn library() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.txt", "b.txt"] {
        std::fs::write(folder.path().join(name), format!("the text of {name}")).unwrap();
    }
    folder
}

#[test]
fn the_same_plan_runs_over_stdio_http_and_through_a_relay() {
    let folder = library();
    let demo = program("aip-demo");
    let path = folder.path().to_str().unwrap();
    let server = ["--", &demo, "library", path];
    let plan = ["mcp", "--tool", "search", "--arrivals", "constant:50", "--agents", "5"];
    let times = ["--quiet", "--json", "-", "--warm-up", "100ms", "--duration", "1s"];
    let stdio = report_of(&aip_load(&[&plan[..], &times, &server].concat()));

    let relay = RelayNode::start();
    let url = relay.url();
    let mut serving = std::process::Command::new(program("aip-mcp"))
        .args(["serve", "--relay", &url, "--insecure", "--name", "lib"])
        .args(server)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let tier = ["--relay", &url, "--insecure", "--server", "lib"];
    let tier = aip_load(&[&plan[..], &times, &tier].concat());
    // It ends on its own when its relay's test is over, but not soon.
    serving.kill().unwrap();
    serving.wait().unwrap();
    let tier = report_of(&tier);
    for report in [&stdio, &tier] {
        assert_eq!(report.counts.ok, 50, "{:?}", report.counts);
        assert_eq!(report.counts.expected, 50);
    }
    assert_eq!(stdio.fingerprint, tier.fingerprint, "so that they can be compared");
    let connects = |report: &Report| {
        report.series.iter().find(|series| series.name == "connect").unwrap().summary.count
    };
    assert_eq!((connects(&stdio), connects(&tier)), (1, 5), "each agent has a session of its own");
}
