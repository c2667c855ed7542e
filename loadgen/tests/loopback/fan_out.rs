//! Fan-out through a relay of this project.

use crate::support::{RelayNode, aip_load, report_of};

#[track_caller]
fn check(arguments: &[&str]) -> aip_load::report::Report {
    let relay = RelayNode::start();
    let url = relay.url();
    let mut all = vec!["relay", "--relay", &url, "--insecure", "--quiet", "--json", "-"];
    all.extend(["--warm-up", "300ms", "--cool-down", "200ms"]);
    all.extend(arguments);
    let report = report_of(&aip_load(&all));
    let counts = &report.counts;
    assert!(0 < counts.expected);
    assert_eq!(counts.ok, counts.expected, "{counts:?}");
    assert_eq!((counts.lost, counts.duplicated, counts.wrong), (0, 0, 0));
    assert_eq!(counts.errors_total(), 0, "{:?}", counts.errors);
    assert_eq!(report.series[0].summary.count, counts.ok);
    report
}

#[test]
fn every_object_reaches_every_subscriber_once_in_each_draft() {
    for draft in ["18", "19", "20", "21", "22"] {
        let report = check(&["--draft", draft, "-s", "4", "--duration", "1s"]);
        assert_eq!(report.counts.expected, 120, "30 objects to 4 subscribers");
        assert_eq!(report.figures["draft"].to_string(), draft);
        assert_eq!(report.figures["upstream subscriptions at the end"], 1.0);
        let last = report.series.iter().find(|series| series.name == "last").unwrap();
        assert_eq!(last.summary.count, 30, "each object has one last subscriber");
    }
}

#[test]
fn objects_of_every_size_arrive_unchanged() {
    for shape in ["audio", "video", "large"] {
        check(&["--shape", shape, "-s", "3", "--duration", "2s"]);
    }
    check(&["--size", "36", "--group", "1", "--arrivals", "poisson:100", "--duration", "1s"]);
}

#[test]
fn datagrams_are_counted_like_streams() {
    check(&["--shape", "audio", "--delivery", "datagram", "-s", "3", "--duration", "1s"]);
}

#[test]
fn who_comes_and_goes_gets_what_it_is_owed() {
    let churn = ["--churn-subscribe", "10", "--churn-reconnect", "10"];
    let arguments = [&["-s", "10", "--duration", "3s"][..], &churn].concat();
    let report = check(&arguments);
    let connects = report.series.iter().find(|series| series.name == "connect").unwrap();
    assert!(10 < connects.summary.count, "nobody reconnected");
    let subscribes = report.series.iter().find(|series| series.name == "subscribe").unwrap();
    assert!(connects.summary.count < subscribes.summary.count, "nobody subscribed again");
}

#[test]
fn several_sockets_carry_what_one_does() {
    check(&["-s", "8", "--sockets", "4", "--duration", "1s"]);
}
