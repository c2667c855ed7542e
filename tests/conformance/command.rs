//! The program itself: its output, and its exit status.

use std::process::{Command, Output};

use aip_engine::{
    io::{self, Config, Identity},
    relay::{self, Relay},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aip-conformance");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn status(arguments: &[&str]) -> Option<i32> {
    run(arguments).status.code()
}

#[test]
fn it_speaks_tap_14_and_json() {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let config = Config::server(listen, Identity::Development);
    let relay = io::spawn(config, || Relay::new(relay::Config::default())).unwrap();
    let url = format!("moqt://{}", relay.addresses()[0]);
    let json = tempfile::NamedTempFile::new().unwrap();
    let path = json.path().to_str().unwrap();
    let arguments = ["-r", &url, "--insecure", "--draft", "22,18", "-t", "setup-only"];
    let output = run(&[&arguments[..], &["-t", "announce-only", "--json", path]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with([' ', '#'])).collect();
    let expected = [
        "TAP version 14",
        "1..4",
        "ok 1 - setup-only draft-22",
        "ok 2 - publish-namespace-only draft-22",
        "ok 3 - setup-only draft-18",
        "ok 4 - publish-namespace-only draft-18",
    ];
    assert_eq!(lines, expected);
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&4.into(), &0.into()));
    assert_eq!(report["results"][2]["draft"], 18);

    // The environment stands for the options.
    let output = Command::new(PROGRAM)
        .env("RELAY_URL", &url)
        .env("TESTCASE", "setup-only")
        .env("MOQT_DRAFT", "draft-20")
        .env("TLS_DISABLE_VERIFY", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("ok 1 - setup-only\n"));

    // A certificate that is not the one pinned is no relay to test.
    let other = "00".repeat(32);
    assert_eq!(status(&["-r", &url, "--certificate-sha256", &other]), Some(1));
    relay.shutdown();
    relay.join().unwrap();
}

#[test]
fn its_status_says_what_is_wrong() {
    let nobody = ["-r", "moqt://127.0.0.1:1", "--insecure"];
    let output = run(&nobody);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("Bail out!"));
    assert_eq!(status(&[&nobody[..], &["-t", "no-such-case"]].concat()), Some(127));
    assert_eq!(status(&["-r", "https://127.0.0.1:1", "--insecure"]), Some(1));
    assert_eq!(status(&["-r", "wss://127.0.0.1:1", "--insecure"]), Some(2));
    assert_eq!(status(&["-r", "moqt://127.0.0.1:1"]), Some(2));
    assert_eq!(status(&["--insecure"]), Some(2));
}

#[test]
fn it_lists_what_it_has() {
    let output = run(&["--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line == "setup-only"));
    assert_eq!(text.lines().count(), aip_tests::conformance::all().len());
    let detailed = String::from_utf8(run(&["-l", "-v", "-t", "setup-only"]).stdout).unwrap();
    assert_eq!(detailed.split('\t').count(), 4, "{detailed}");
}
