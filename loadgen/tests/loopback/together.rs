//! Several processes that load together.

use crate::{
    server::with_server,
    support::{RelayNode, aip_load, report_of},
};

const QUIET: [&str; 3] = ["--quiet", "--json", "-"];

#[test]
fn processes_begin_together_and_add_up() {
    let report = with_server(|url, _| {
        let together = ["together", "--processes", "3", "--begin-after", "3s"];
        let load = ["--", "mcp", "--url", url, "--tool", "echo", "--arrivals", "constant:20"];
        let times = ["--duration", "2s", "--warm-up", "200ms", "--agents", "2"];
        report_of(&aip_load(&[&together[..], &QUIET, &load, &times].concat()))
    });
    assert_eq!(report.figures["processes merged"], 3.0);
    assert_eq!((report.counts.expected, report.counts.ok), (120, 120), "{:?}", report.counts);
    assert_eq!(report.main().unwrap().times().unwrap().count(), 120);
}

#[test]
fn who_is_not_ready_in_time_says_so() {
    let relay = RelayNode::start();
    let url = relay.url();
    let load = ["relay", "--relay", &url, "--insecure", "-s", "1", "--begin-at", "1"];
    let output = aip_load(&[&load[..], &QUIET].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--begin-at had passed"));
}
