//! What a peer may say on a connection over HTTP/3, before and beside its session.

use aip_engine::io::__WebTransportProbe as Probe;
use bytes::Bytes;

use super::choice;

/// Takes as many bytes as the first says, or as there are.
fn piece<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::from(choice(input)).min(input.len());
    let (piece, rest) = input.split_at(length);
    *input = rest;
    piece
}

/// Which side we are, then what comes and what the driver does.
///
/// # Panics
/// If what has to hold does not.
pub fn webtransport(mut input: &[u8]) {
    let mut probe = Probe::new(choice(&mut input).is_multiple_of(2));
    while !input.is_empty() {
        let kind = choice(&mut input) % 8;
        let stream = u64::from(choice(&mut input));
        match kind {
            0 | 1 => probe.receive(stream, Bytes::from(piece(&mut input).to_vec()), kind == 1),
            2 => {
                for byte in piece(&mut input) {
                    probe.receive(stream, Bytes::from(vec![*byte]), false);
                }
            }
            3 => probe.reset(stream, choice(&mut input).into()),
            4 => probe.stop(stream, choice(&mut input).into()),
            5 => probe.datagram(Bytes::from(piece(&mut input).to_vec())),
            6 => probe.send(stream, Bytes::from_static(b"said"), false),
            _ if stream == 0 => probe.close(),
            _ if stream == 1 => probe.finish(),
            _ => probe.refuse(stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn the_committed_corpus_holds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/webtransport");
        let mut count = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            super::webtransport(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(8 <= count, "there are {count} inputs");
    }
}
