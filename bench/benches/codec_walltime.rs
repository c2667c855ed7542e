//! Time of reading and writing objects and messages.

use std::hint::black_box;

use aip_codec::{
    Version,
    moqt::{
        id::ObjectId,
        message::{FrameDecoder, Message},
        property::Properties,
        stream::subgroup::{Decoder, Encoder, ObjectHeader, ObjectStatus},
    },
};
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

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

fn objects(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("object");
    group.throughput(Throughput::Elements(100));
    let bytes = stream(100, 1_200);
    group.bench_function("decode_100", |bencher| {
        bencher.iter(|| {
            let mut decoder = Decoder::new();
            decoder.push(bytes.clone());
            while let Ok(Some(item)) = decoder.poll() {
                black_box(item);
            }
        });
    });
    group.bench_function("encode_100", |bencher| bencher.iter(|| black_box(stream(100, 0))));
    group.finish();
}

fn messages(criterion: &mut Criterion) {
    let subscribe = Bytes::from_static(&[
        0x03, 0x00, 0x25, 0x02, 0x02, 0x08, b'm', b'o', b'q', b'-', b't', b'e', b's', b't', 0x07,
        b'i', b'n', b't', b'e', b'r', b'o', b'p', 0x0a, b't', b'e', b's', b't', b'-', b't', b'r',
        b'a', b'c', b'k', 0x03, 0x10, 0x01, 0x10, 0x07, 0x02, 0x02,
    ]);
    criterion.bench_function("message/decode_subscribe", |bencher| {
        bencher.iter(|| {
            let mut decoder = FrameDecoder::new(Version::Draft22);
            decoder.push(subscribe.clone());
            let frame = decoder.poll().expect("well formed").expect("whole");
            black_box(Message::decode(Version::Draft22, frame.kind, frame.body))
        });
    });
}

criterion_group!(benches, objects, messages);
criterion_main!(benches);
