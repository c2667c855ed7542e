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
fn call_records() {
    replay("call_records", fuzz::call_records);
}
