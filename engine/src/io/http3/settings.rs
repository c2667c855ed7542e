//! SETTINGS of both sides.

use bytes::Bytes;

use super::{
    error::{Code, Fault},
    integer::{decode, encode},
    stream_type,
};

const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
const H3_DATAGRAM: u64 = 0x33;
/// HTTP datagrams before they were an RFC, which browsers still ask for.
const H3_DATAGRAM_DRAFT: u64 = 0x00ff_d277;
/// How WebTransport was offered by draft 2 to 6, 7 to 12, 13 and 14, and since 15.
const WEBTRANSPORT: [u64; 4] = [0x2b60_3742, 0xc671_706a, 0x14e9_cd29, 0x2c7c_f000];

/// Bytes of a header list, decoded, that we take.
pub(in crate::io) const FIELDS_MAX: u64 = 16 << 10;

/// What the peer's settings say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::io) struct Settings {
    /// Whether CONNECT may name a protocol.
    pub(in crate::io) connect_protocol: bool,
    /// Whether it takes datagrams.
    pub(in crate::io) datagrams: bool,
    /// Whether it offers WebTransport by any draft.
    pub(in crate::io) webtransport: bool,
}

impl Settings {
    /// Reads a SETTINGS frame's payload.
    ///
    /// # Errors
    /// If it is none, repeats itself, or says what it cannot.
    pub(in crate::io) fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let wrong = |what| Fault::Connection(Code::SETTINGS_ERROR, what);
        let mut settings = Self::default();
        let mut seen = Vec::new();
        let mut rest = payload;
        while !rest.is_empty() {
            let cut = Fault::Connection(Code::FRAME_ERROR, "settings are cut short");
            let (id, size) = decode(rest).ok_or(cut)?;
            let (value, more) = decode(&rest[size..]).ok_or(cut)?;
            rest = &rest[size + more..];
            // No more than a frame of 4 KiB can hold.
            if seen.contains(&id) {
                return Err(wrong("a setting is there twice"));
            }
            seen.push(id);
            match id {
                0x0 | 0x2..=0x5 => return Err(wrong("a setting of HTTP/2")),
                ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM if 1 < value => {
                    return Err(wrong("a setting that is 0 or 1 is neither"));
                }
                ENABLE_CONNECT_PROTOCOL => settings.connect_protocol = value == 1,
                H3_DATAGRAM | H3_DATAGRAM_DRAFT => settings.datagrams |= value == 1,
                id if WEBTRANSPORT.contains(&id) => settings.webtransport |= 0 < value,
                _ => {}
            }
        }
        Ok(settings)
    }
}

/// The beginning of our control stream: its type, and SETTINGS.
pub(in crate::io) fn settings_frame() -> Bytes {
    let mut payload = Vec::new();
    let ours = [
        (MAX_FIELD_SECTION_SIZE, FIELDS_MAX),
        (ENABLE_CONNECT_PROTOCOL, 1),
        (H3_DATAGRAM, 1),
        (H3_DATAGRAM_DRAFT, 1),
    ];
    for (id, value) in ours.into_iter().chain(WEBTRANSPORT.map(|id| (id, 1))) {
        encode(id, &mut payload);
        encode(value, &mut payload);
    }
    let mut out = Vec::new();
    encode(stream_type::CONTROL, &mut out);
    encode(0x4, &mut out);
    encode(payload.len() as u64, &mut out);
    out.extend(payload);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8], expected: Result<Settings, Code>) {
        let came = Settings::decode(payload).map_err(Fault::code);
        assert_eq!(came, expected, "{payload:02x?}");
    }

    #[test]
    fn ours_are_understood() {
        let frame = settings_frame();
        let (length, size) = decode(&frame[2..]).unwrap();
        let payload = &frame[2 + size..];
        assert_eq!(payload.len() as u64, length);
        let all = Settings { connect_protocol: true, datagrams: true, webtransport: true };
        check(payload, Ok(all));
    }

    #[test]
    fn settings_that_cannot_be() {
        check(&[], Ok(Settings::default()));
        check(&[0x8, 1, 0x8, 1], Err(Code::SETTINGS_ERROR));
        check(&[0x21, 1, 0x21, 1], Err(Code::SETTINGS_ERROR));
        check(&[0x8, 2], Err(Code::SETTINGS_ERROR));
        check(&[0x33, 2], Err(Code::SETTINGS_ERROR));
        for id in [0x0, 0x2, 0x3, 0x4, 0x5] {
            check(&[id, 1], Err(Code::SETTINGS_ERROR));
        }
        check(&[0x8], Err(Code::FRAME_ERROR));
        check(&[0x40], Err(Code::FRAME_ERROR));
    }
}
