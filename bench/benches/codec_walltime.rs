//! Time of reading messages; objects are among the paths.

use std::hint::black_box;

use aip_codec::{
    Version,
    moqt::message::{FrameDecoder, Message},
};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};

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

criterion_group!(benches, messages);
criterion_main!(benches);
