//! Namespaces through a relay.

use aip_codec::{
    Version,
    moqt::{error_code::ResetCode, id::RequestId, parameter::Parameter},
};
use aip_engine::session::{Event, Response};
use aip_tests::sim::{NodeId, shards::Pace};

use super::{DRAFTS, Stage, namespace, none, with};

impl Stage {
    fn watch_namespaces(&mut self, peer: NodeId, prefix: &str) -> RequestId {
        let prefix = namespace(prefix);
        self.tell(peer, |peer| peer.session().subscribe_namespace(prefix, none()).unwrap())
    }

    /// What was told of namespaces: `+a-b` or `-a-b`.
    fn told(&mut self, peer: NodeId) -> Vec<String> {
        self.take(peer)
            .iter()
            .filter_map(|event| match event {
                Event::Namespace { suffix, .. } => Some(format!("+{suffix}")),
                Event::NamespaceDone { suffix, .. } => Some(format!("-{suffix}")),
                Event::Response { body: Response::Ok(_), .. } => Some("ok".to_owned()),
                Event::Response { body: Response::Error(error), .. } => {
                    Some(error.code.name().to_owned())
                }
                Event::UpdateResponse { result, .. } => Some(match result {
                    Ok(_) => "updated".to_owned(),
                    Err(error) => error.code.name().to_owned(),
                }),
                Event::Ended { .. } => Some("ended".to_owned()),
                _ => None,
            })
            .collect()
    }

    fn withdraw(&mut self, peer: NodeId, request: RequestId) {
        self.tell(peer, |peer| peer.session().cancel(request, ResetCode::CANCELLED));
    }
}

#[test]
fn watchers_are_told_of_every_namespace() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.peer(drafts.0);
        let room = stage.announce(publisher, "live/room");
        let watcher = stage.peer(drafts.1);
        stage.watch_namespaces(watcher, "live");
        assert_eq!(stage.told(watcher), ["ok", "+room"], "{drafts:?}");
        // Its own namespaces too, and those that come later; others not.
        stage.announce(watcher, "live");
        stage.announce(watcher, "lively");
        let hall = stage.announce(publisher, "live/hall/left");
        assert_eq!(stage.told(watcher), ["+", "+hall-left"], "{drafts:?}");
        stage.withdraw(publisher, hall);
        stage.withdraw(publisher, room);
        assert_eq!(stage.told(watcher), ["-hall-left", "-room"], "{drafts:?}");
    }
}

/// A shard hears that one publisher is gone before it hears that another one had come before.
#[test]
fn a_namespace_that_another_shard_has_goes_on_in_every_shard() {
    for seed in 0..100 {
        let mut stage = Stage::new();
        let (watcher, _) = stage.peer_in(2, Version::Draft22);
        stage.watch_namespaces(watcher, "");
        let (first, _) = stage.peer_in(0, Version::Draft22);
        let (second, _) = stage.peer_in(1, Version::Draft22);
        let one = stage.announce(first, "live");
        assert_eq!(stage.told(watcher), ["ok", "+live"]);
        stage.relay(|relay| relay.set_pace(Pace::SLOW, seed));
        let other = stage.world.with(second, |peer: &mut super::Peer, _| {
            peer.session().publish_namespace(namespace("live"), none()).unwrap()
        });
        stage.run(3);
        assert!(matches!(stage.response(second, other), Response::Ok(_)), "{seed}");
        stage.withdraw(first, one);
        assert_eq!(stage.told(watcher), [""; 0], "{seed}");
        stage.withdraw(second, other);
        assert_eq!(stage.told(watcher), ["-live"], "{seed}");
    }
}

#[test]
fn a_namespace_ends_with_its_last_publisher() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let watcher = stage.peer(drafts.1);
        stage.watch_namespaces(watcher, "");
        let first = stage.peer(drafts.0);
        let (second, link) = stage.peer_with_link(drafts.0);
        let one = stage.announce(first, "live");
        stage.announce(second, "live");
        assert_eq!(stage.told(watcher), ["ok", "+live"], "told once: {drafts:?}");
        stage.withdraw(first, one);
        assert_eq!(stage.told(watcher), [""; 0]);
        stage.world.kill(link);
        stage.run(20);
        assert_eq!(stage.told(watcher), ["-live"], "{drafts:?}");
        stage.announce(first, "live");
        assert_eq!(stage.told(watcher), ["+live"]);
    }
}

#[test]
fn overlapping_watches_of_a_kind_are_refused() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let watcher = stage.peer(drafts.1);
        let first = stage.watch_namespaces(watcher, "live/room");
        stage.watch_namespaces(watcher, "live");
        stage.watch_namespaces(watcher, "");
        stage.watch_namespaces(watcher, "live/room/left");
        stage.watch_namespaces(watcher, "live/rooms");
        let overlap = "PREFIX_OVERLAP";
        assert_eq!(stage.told(watcher), ["ok", overlap, overlap, overlap, "ok"], "{drafts:?}");
        stage.tell(watcher, |peer| {
            peer.session().subscribe_tracks(namespace("live"), none()).unwrap();
        });
        assert_eq!(stage.told(watcher), ["ok"], "the kinds are independent");
        // Another session has its own.
        let other = stage.peer(drafts.1);
        stage.watch_namespaces(other, "live");
        assert_eq!(stage.told(other), ["ok"]);
        // What is cancelled overlaps nothing.
        stage.withdraw(watcher, first);
        stage.watch_namespaces(watcher, "live/room");
        assert_eq!(stage.told(watcher), ["ok"], "{drafts:?}");
    }
}

#[test]
fn a_watch_moves_to_another_prefix() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let publisher = stage.peer(drafts.0);
        stage.announce(publisher, "live/room");
        stage.announce(publisher, "past/room");
        let watcher = stage.peer(drafts.1);
        let watch = stage.watch_namespaces(watcher, "live");
        let fixed = stage.watch_namespaces(watcher, "other");
        assert_eq!(stage.told(watcher), ["ok", "+room", "ok"]);
        let moved = |stage: &mut Stage, request, prefix: &str| {
            let prefix = Parameter::TrackNamespacePrefix(namespace(prefix));
            stage.tell(watcher, |peer| peer.session().update(request, with(prefix)).unwrap());
        };
        moved(&mut stage, watch, "past");
        // What follows the answer is relative to the new prefix, what comes before it to the old.
        assert_eq!(stage.told(watcher), ["-room", "updated", "+room"], "{drafts:?}");
        stage.announce(publisher, "live/hall");
        stage.announce(publisher, "past/hall");
        assert_eq!(stage.told(watcher), ["+hall"], "{drafts:?}");
        moved(&mut stage, fixed, "past/room");
        let told = stage.told(watcher);
        assert_eq!(told.first().map(String::as_str), Some("PREFIX_OVERLAP"), "{told:?}");
        // The refused one is over, the other goes on.
        stage.announce(publisher, "other/a");
        stage.announce(publisher, "past/b");
        assert_eq!(stage.told(watcher), ["+b"]);
    }
}

#[test]
fn namespaces_and_watches_are_bounded() {
    let config = super::config(|config| {
        config.session_namespaces_max = 2;
        config.namespaces_max = 3;
        config.session_watches_max = 1;
    });
    for drafts in DRAFTS {
        let mut stage = Stage::with(config.clone());
        let announce = |stage: &mut Stage, peer, path: &str| {
            let path = namespace(path);
            stage.tell(peer, |peer| peer.session().publish_namespace(path, none()).unwrap())
        };
        let one = stage.peer(drafts.0);
        let first = announce(&mut stage, one, "a");
        announce(&mut stage, one, "b");
        announce(&mut stage, one, "c");
        assert_eq!(stage.told(one), ["ok", "ok", "EXCESSIVE_LOAD"], "{drafts:?}");
        let two = stage.peer(drafts.0);
        announce(&mut stage, two, "c");
        announce(&mut stage, two, "d");
        assert_eq!(stage.told(two), ["ok", "EXCESSIVE_LOAD"], "{drafts:?}");
        stage.withdraw(one, first);
        announce(&mut stage, two, "d");
        assert_eq!(stage.told(two), ["ok"], "{drafts:?}");
        stage.watch_namespaces(one, "x");
        stage.watch_namespaces(one, "y");
        assert_eq!(stage.told(one), ["ok", "EXCESSIVE_LOAD"]);
        assert_eq!(stage.counts().2, 3);
    }
}

#[test]
fn too_many_namespaces_are_not_watched() {
    let config = super::config(|config| config.watched_namespaces_max = 2);
    for drafts in DRAFTS {
        let mut stage = Stage::with(config.clone());
        let publisher = stage.peer(drafts.0);
        for path in ["a/x", "a/y", "b/x", "b/y", "b/z"] {
            stage.announce(publisher, path);
        }
        let watcher = stage.peer(drafts.1);
        stage.watch_namespaces(watcher, "b");
        assert_eq!(stage.told(watcher), ["NAMESPACE_TOO_LARGE"], "{drafts:?}");
        stage.watch_namespaces(watcher, "");
        assert_eq!(stage.told(watcher), ["NAMESPACE_TOO_LARGE"], "{drafts:?}");
        stage.watch_namespaces(watcher, "a");
        assert_eq!(stage.told(watcher).first().map(String::as_str), Some("ok"), "{drafts:?}");
        let all = namespace("");
        let tracks =
            stage.tell(watcher, |peer| peer.session().subscribe_tracks(all, none()).unwrap());
        assert_eq!(stage.refusal(watcher, tracks), "NAMESPACE_TOO_LARGE", "{drafts:?}");
    }
}

#[test]
fn a_session_that_ends_leaves_nothing() {
    for drafts in DRAFTS {
        let mut stage = Stage::new();
        let (peer, link) = stage.peer_with_link(drafts.0);
        stage.announce(peer, "live");
        stage.watch_namespaces(peer, "live");
        stage.tell(peer, |peer| peer.session().subscribe_tracks(namespace(""), none()).unwrap());
        let patience = with(Parameter::RendezvousTimeout(20_000));
        stage.subscribe(peer, "t", patience);
        stage.world.kill(link);
        stage.run(20);
        assert_eq!(stage.counts(), (0, 0, 0), "{drafts:?}");
    }
}
