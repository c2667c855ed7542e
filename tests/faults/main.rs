//! Faults of network, machine and peers, small: each figure is as it has to be, but for times, which
//! `make faults` judges on a machine that does nothing else.

use aip_tests::faults::{Figure, Scale, cases, table};

#[track_caller]
fn check(name: &str) {
    let case = cases().into_iter().find(|case| case.name == name).expect("a case");
    let figures = (case.run)(Scale::SHORT).expect("a relay and sockets");
    assert!(!figures.is_empty());
    let is_right = |figure: &Figure| figure.is_met() || figure.is_time();
    assert!(figures.iter().all(is_right), "{}", table(&figures));
}

#[test]
fn loss() {
    check("loss");
}

#[test]
fn disorder() {
    check("disorder");
}

#[test]
fn holes() {
    check("holes");
}

#[test]
fn a_narrower_path() {
    check("narrow");
}

#[test]
fn groups_in_any_order() {
    check("order");
}

#[test]
fn the_first_burst_on_fresh_tracks() {
    check("fresh");
}

#[test]
fn a_publisher_that_dies() {
    check("publisher");
}

#[test]
fn a_subscriber_that_dies() {
    check("subscriber");
}

#[test]
fn a_relay_that_is_killed_and_comes_back() {
    check("relay");
}

#[test]
fn relays_above_that_die_in_turn() {
    check("failover");
}

#[test]
fn relays_above_that_are_none() {
    check("upstream");
}

#[test]
fn a_relay_that_is_cut_off() {
    check("partition");
}

#[test]
fn addresses_that_change() {
    check("rebinding");
}

#[test]
fn no_descriptors_left() {
    check("exhaustion");
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "unoptimised, the relay alone is a third of the memory: `make faults`"
)]
fn hardly_any_memory_left() {
    check("memory");
}

#[test]
fn a_system_that_does_not_send() {
    check("sends");
}

#[test]
fn a_machine_that_stands_still() {
    check("stopped");
}

#[test]
fn hostile_words() {
    check("words");
}

#[test]
fn readers_that_never_finish() {
    check("admin");
}

#[test]
fn a_log_that_cannot_be_written() {
    check("log");
}

#[test]
fn nothing_stays_of_what_went_through() {
    check("soak");
}

#[test]
fn every_case_is_tested() {
    let source = include_str!("main.rs");
    for case in cases() {
        assert!(source.contains(&format!("check(\"{}\")", case.name)), "{}", case.name);
    }
}
