//! The committed fuzz corpus, through the functions that the fuzz targets call.

use std::{fs, path::Path};

use aip_tests::fuzz;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(8 <= count, "{target} has {count} inputs");
}

#[test]
fn control() {
    replay("control", fuzz::control);
}

#[test]
fn parameters_and_properties() {
    replay("parameters_and_properties", fuzz::parameters_and_properties);
}

#[test]
fn subgroup() {
    replay("subgroup", fuzz::subgroup);
}

#[test]
fn fetch() {
    replay("fetch", fuzz::fetch);
}

#[test]
fn datagram() {
    replay("datagram", fuzz::datagram);
}

#[test]
fn token() {
    replay("token", fuzz::token);
}

#[test]
fn session() {
    replay("session", fuzz::session);
}

#[test]
fn relay() {
    replay("relay", fuzz::relay);
}

#[cfg(feature = "io")]
#[test]
fn json_rpc() {
    replay("json_rpc", fuzz::json_rpc);
}

#[test]
fn compact() {
    replay("compact", fuzz::compact);
}

#[test]
fn call_records() {
    replay("call_records", fuzz::call_records);
}

#[test]
fn encode() {
    replay("encode", fuzz::encode);
}

#[test]
fn text() {
    replay("text", fuzz::text);
}

#[cfg(feature = "io")]
#[test]
fn webtransport() {
    replay("webtransport", fuzz::webtransport);
}
