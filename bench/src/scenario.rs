//! The hot paths, each as something that can be repeated: for clocks (`*_walltime`) and for counts
//! of instructions (`aip-instructions`) alike.

use std::hint::black_box;

use aip_codec::moqt::{
    id::ObjectId,
    property::Properties,
    stream::subgroup::{Decoder, Encoder, ObjectHeader, ObjectStatus},
};
use bytes::{Bytes, BytesMut};

use crate::stage::{OBJECTS_PER_GROUP, Pair, Stage};

/// Bytes of an object.
const SIZE: usize = 1_200;
/// How many of a kind one call does, so that little of it is the call itself.
const OBJECTS: u64 = 1_000;
const OBJECTS_IN_TURN: u64 = 10;
const TURNS: u64 = 100;

/// What is repeated: the call does it once.
pub type Scenario = Box<dyn FnMut()>;

/// A scenario's name, and what its cost is the cost of.
pub const ALL: [(&str, &str); 14] = [
    ("object_decode", "object"),
    ("object_encode", "object"),
    ("fan_out_1", "object × subscriber"),
    ("fan_out_10", "object × subscriber"),
    ("fan_out_100", "object × subscriber"),
    ("fan_out_1000", "object × subscriber"),
    ("namespace_lookup_10", "SUBSCRIBE, its way to the publisher and back"),
    ("namespace_lookup_10000", "SUBSCRIBE, its way to the publisher and back"),
    ("namespace_lookup_1000000", "SUBSCRIBE, its way to the publisher and back"),
    ("cache_insert", "object that is received and cached"),
    ("cache_fetch", "object that is fetched and received"),
    ("session_turn", "object that one session sends and another receives"),
    ("call_record", "record that goes from one side of a call to the other"),
    ("relay_in_memory_10", "object × subscriber, with the subscriber's session"),
];

/// A name's kind, and the number behind it.
fn parts(name: &str) -> (&str, u64) {
    let parts = name.rsplit_once('_');
    let parts = parts.and_then(|(kind, number)| Some((kind, number.parse().ok()?)));
    parts.unwrap_or((name, 0))
}

/// How many of what is counted one call of the scenario of this name does; `None` if there is none.
pub fn times(name: &str) -> Option<u64> {
    let (kind, number) = parts(name);
    Some(match kind {
        "object_decode" | "object_encode" => OBJECTS,
        "fan_out" | "relay_in_memory" => OBJECTS_IN_TURN * number,
        "namespace_lookup" => OBJECTS_IN_TURN,
        "cache_insert" | "session_turn" | "call_record" => TURNS,
        "cache_fetch" => OBJECTS_PER_GROUP,
        _ => return None,
    })
}

/// The scenario of this name, set up; `None` if there is none.
pub fn scenario(name: &str) -> Option<Scenario> {
    let (kind, number) = parts(name);
    let number = usize::try_from(number).ok()?;
    Some(match kind {
        "object_decode" => decode(),
        "object_encode" => encode(),
        "fan_out" => fan_out(number),
        "namespace_lookup" => namespace_lookup(number),
        "cache_insert" => cache_insert(),
        "cache_fetch" => cache_fetch(),
        "session_turn" => session_turn(),
        "call_record" => call_record(),
        "relay_in_memory" => relay_in_memory(number),
        _ => return None,
    })
}

/// A subgroup stream's header and `count` objects of `size` bytes.
fn stream(count: u64, size: usize) -> Bytes {
    let mut bytes = BytesMut::from(&[0x70, 7, 1][..]);
    let mut encoder = Encoder::new(false);
    for object in 0..count {
        let header = ObjectHeader {
            object: ObjectId(object),
            properties: Properties::default(),
            payload_length: size as u64,
            status: ObjectStatus::Normal,
        };
        encoder.object(&header, &mut bytes).expect("objects ascend");
        bytes.resize(bytes.len() + size, b'x');
    }
    bytes.freeze()
}

fn decode() -> Scenario {
    let bytes = stream(OBJECTS, SIZE);
    Box::new(move || {
        let mut decoder = Decoder::new();
        decoder.push(bytes.clone());
        while let Ok(Some(item)) = decoder.poll() {
            black_box(item);
        }
    })
}

fn encode() -> Scenario {
    let mut bytes = BytesMut::with_capacity(16 << 10);
    Box::new(move || {
        let mut encoder = Encoder::new(false);
        bytes.clear();
        for object in 0..OBJECTS {
            let header = ObjectHeader {
                object: ObjectId(object),
                properties: Properties::default(),
                payload_length: SIZE as u64,
                status: ObjectStatus::Normal,
            };
            encoder.object(black_box(&header), &mut bytes).expect("objects ascend");
        }
        black_box(&bytes);
    })
}

fn fan_out(subscribers: usize) -> Scenario {
    let mut stage = Stage::new(subscribers, SIZE);
    stage.forward();
    Box::new(move || {
        for _ in 0..OBJECTS_IN_TURN {
            black_box(stage.forward());
        }
    })
}

fn namespace_lookup(count: usize) -> Scenario {
    let mut stage = Stage::new(1, SIZE);
    stage.publish_namespaces(count);
    stage.find(count);
    Box::new(move || {
        for _ in 0..OBJECTS_IN_TURN {
            stage.find(count);
        }
    })
}

fn cache_insert() -> Scenario {
    let mut stage = Stage::caching(SIZE);
    stage.forward();
    Box::new(move || {
        for _ in 0..TURNS {
            black_box(stage.forward());
        }
    })
}

fn cache_fetch() -> Scenario {
    let mut stage = Stage::caching(SIZE);
    for _ in 0..=OBJECTS_PER_GROUP {
        stage.forward();
    }
    Box::new(move || {
        black_box(stage.fetch());
    })
}

fn session_turn() -> Scenario {
    let mut pair = Pair::new(SIZE);
    pair.send();
    Box::new(move || {
        for _ in 0..TURNS {
            black_box(pair.send());
        }
    })
}

fn call_record() -> Scenario {
    let mut stage = Stage::new(1, SIZE);
    stage.call();
    Box::new(move || {
        for _ in 0..TURNS {
            black_box(stage.pass_record());
        }
    })
}

fn relay_in_memory(subscribers: usize) -> Scenario {
    let mut stage = Stage::new(subscribers, SIZE);
    stage.deliver();
    Box::new(move || {
        for _ in 0..OBJECTS_IN_TURN {
            stage.deliver();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_scenario() {
        for (name, _) in ALL.iter().filter(|(name, _)| !name.ends_with("1000000")) {
            scenario(name).unwrap()();
            assert!(0 < times(name).unwrap(), "{name}");
        }
        assert!(scenario("nothing").is_none() && times("nothing_10").is_none());
    }
}
