//! Every case, against a relay of ours in this process.

use std::{fmt::Write as _, time::Duration};

use aip_codec::Version;
use aip_engine::{
    io::{self, Config, Identity, Trust},
    relay,
    shard::Shard,
};
use aip_tests::conformance::{self, Endpoint};

/// Our limits, with timers that a test may wait for.
fn limits() -> relay::Config {
    let mut limits = relay::Config::default();
    limits.session.setup_timeout = Duration::from_secs(2);
    limits.session.control_message_timeout = Duration::from_secs(2);
    limits.session.data_stream_timeout = Duration::from_secs(3);
    limits
}

fn check(version: Version, scheme: &str, workers: usize) {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let config = Config::server(listen, Identity::Development).with_workers(workers);
    let shard = |place| Shard::new(&limits(), place, false);
    let relay = io::spawn_workers(config, shard).unwrap();
    let url = format!("{scheme}://{}", relay.addresses()[0]).parse().unwrap();
    let pin = relay.certificate_sha256().unwrap();
    let endpoint = Endpoint::new(url, Trust::CertificateSha256(vec![pin])).unwrap();
    assert_eq!(conformance::probe(&endpoint, &[version]), Ok(vec![version]));

    let cases = conformance::all();
    let plan = conformance::plan(&cases, &[version], endpoint.is_webtransport());
    assert!(250 < plan.len(), "{} cases only", plan.len());
    let (mut run, mut failures) = (0, String::new());
    conformance::run(&endpoint, &plan, 8, |result| {
        run += 1;
        if let Err(failure) = &result.outcome {
            writeln!(failures, "{}: {failure}", result.case.name).unwrap();
        }
    });
    assert_eq!(run, plan.len());
    assert!(failures.is_empty(), "draft {}:\n{failures}", version.number());
    relay.shutdown();
    assert!(relay.wait(Duration::from_secs(20)), "the relay does not end");
    relay.join().unwrap();
}

#[test]
fn draft_18() {
    check(Version::Draft18, "moqt", 3);
}

#[test]
fn draft_19() {
    check(Version::Draft19, "moqt", 2);
}

#[test]
fn draft_20() {
    check(Version::Draft20, "moqt", 4);
}

#[test]
fn draft_21() {
    check(Version::Draft21, "moqt", 3);
}

#[test]
fn draft_22() {
    check(Version::Draft22, "moqt", 3);
}

#[test]
fn draft_22_of_one_worker() {
    check(Version::Draft22, "moqt", 1);
}

#[test]
fn draft_22_over_webtransport() {
    check(Version::Draft22, "https", 1);
}

#[test]
fn draft_18_over_webtransport() {
    check(Version::Draft18, "https", 2);
}
