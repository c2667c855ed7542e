//! A run that is ended before its end reports what it has.

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
};

use aip_load::report::Report;

use crate::{
    server::with_server,
    support::{RelayNode, report_of},
};

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_aip-load"))
        .args(arguments)
        .args(["--quiet", "--json", "-", "--duration", "10m", "--warm-up", "100ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Presses Ctrl-C.
fn interrupt(child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
}

#[track_caller]
fn check(child: Child) -> Report {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "a run that was cut short is not the one planned");
    let report = report_of(&output);
    let reason = report.validity.invalid.iter().find(|it| it.contains("interrupted"));
    assert!(reason.is_some(), "{:?}", report.validity);
    let counts = &report.counts;
    assert!(0 < counts.ok, "{counts:?}");
    assert_eq!((counts.ok, counts.lost), (counts.expected, 0), "what was under way came");
    assert!(0.0 < report.seconds && report.seconds < 600.0);
    report
}

#[test]
fn a_load_on_a_server_ends_and_reports() {
    let report = with_server(|url, server| {
        let arguments = ["mcp", "--url", url, "--tool", "echo", "--arrivals", "constant:100"];
        let child = start(&arguments);
        while server.asked.load(Ordering::SeqCst) < 50 {
            std::thread::yield_now();
        }
        interrupt(&child);
        check(child)
    });
    assert!((report.rate() - 100.0).abs() < 20.0, "{} s", report.seconds);
}

#[test]
fn a_fan_out_ends_and_reports() {
    let relay = RelayNode::start();
    let url = relay.url();
    let child = start(&["relay", "--relay", &url, "--insecure", "-s", "3"]);
    // 30 a second to three subscribers: after the warm-up.
    while relay.objects_forwarded() < 60 {
        std::thread::yield_now();
    }
    interrupt(&child);
    check(child);
}
