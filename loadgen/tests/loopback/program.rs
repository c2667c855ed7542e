//! What scripts see of the program: exit codes and files.

use crate::support::{RelayNode, aip_load};

#[test]
fn exit_codes_say_what_happened() {
    let relay = RelayNode::start();
    let url = relay.url();
    let run = ["relay", "--relay", &url, "--insecure", "-s", "2", "--duration", "500ms", "--quiet"];
    let times = ["--warm-up", "100ms", "--cool-down", "100ms"];
    // However busy this machine is, the run is not to be invalid for it.
    let patient = ["--lag-max", "10s"];
    let code = |more: &[&str]| {
        let arguments = [&run[..], &times, more].concat();
        aip_load(&arguments).status.code().unwrap()
    };
    let good = ["--assert", "p99 < 1m, lost == 0, errors < 0.1%"];
    assert_eq!(code(&[&patient[..], &good].concat()), 0);
    let bad = ["--assert", "p50 < 1ns"];
    assert_eq!(code(&[&patient[..], &bad].concat()), 1);
    assert_eq!(code(&["--assert", "nonsense"]), 2);
    assert_eq!(code(&["--lag-max", "1ns"]), 3, "no generator is that punctual");
    let nobody = ["relay", "--relay", "moqt://127.0.0.1:1", "--insecure", "--setup", "1s"];
    assert_eq!(aip_load(&nobody).status.code(), Some(2));
}

#[test]
fn reports_are_kept_and_compared() {
    let relay = RelayNode::start();
    let url = relay.url();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, hgrm, worse) = (path("run.json"), path("run.hgrm"), path("worse.json"));
    let run = ["relay", "--relay", &url, "--insecure", "-s", "2", "--duration", "500ms"];
    let times = ["--warm-up", "100ms", "--cool-down", "100ms", "--lag-max", "10s", "--quiet"];
    let files = ["--json", &json, "--hgrm", &hgrm];
    let output = aip_load(&[&run[..], &times, &files].concat());
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("latency"), "the table is there too");
    let percentiles = std::fs::read_to_string(&hgrm).unwrap();
    assert!(percentiles.contains("#[Max"));

    assert_eq!(aip_load(&["compare", &json, &json]).status.code(), Some(0));
    let mut report = aip_load::report::Report::load(json.as_ref()).unwrap();
    report.counts.lost = report.counts.expected;
    std::fs::write(&worse, report.to_json()).unwrap();
    let compared = aip_load(&["compare", &json, &worse]);
    assert_eq!(compared.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&compared.stderr).contains("worse: lost"));
    report.fingerprint = "0".repeat(64);
    std::fs::write(&worse, report.to_json()).unwrap();
    assert_eq!(aip_load(&["compare", &json, &worse]).status.code(), Some(2));
    assert_eq!(aip_load(&["compare", &json, "/nowhere.json"]).status.code(), Some(2));
}
