//! Header lists: QPACK without a dynamic table, and what a request or response must be.

use bytes::Bytes;
use quiche::h3::{Header, NameValue as _, qpack};

use super::{
    error::{Code, Fault},
    frame::headers_frame,
    settings::FIELDS_MAX,
};

/// Bytes of a header list of ours at most.
const OURS_MAX: usize = 16 << 10;

/// A header list, decoded.
#[derive(Debug)]
pub(in crate::io) struct Fields {
    list: Vec<Header>,
}

/// A request's pseudo-header fields.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::io) struct Request {
    /// `:method`.
    pub(in crate::io) method: String,
    /// `:protocol`, of extended CONNECT alone.
    pub(in crate::io) protocol: Option<String>,
    /// `:scheme`; empty in a CONNECT that is not extended.
    pub(in crate::io) scheme: String,
    /// `:authority`, or else the field `host`.
    pub(in crate::io) authority: String,
    /// `:path`; empty in a CONNECT that is not extended.
    pub(in crate::io) path: String,
}

const fn malformed(what: &'static str) -> Fault {
    Fault::Stream(Code::MESSAGE_ERROR, what)
}

impl Fields {
    /// Decodes a HEADERS frame's payload.
    ///
    /// # Errors
    /// If it is no header list, refers to a dynamic table, or is longer than 16 KiB.
    pub(in crate::io) fn decode(block: &[u8]) -> Result<Self, Fault> {
        let failed = |what| Fault::Connection(Code::QPACK_DECOMPRESSION_FAILED, what);
        // Required Insert Count.
        if block.first() != Some(&0) {
            return Err(failed("a dynamic table, of which there is none"));
        }
        match qpack::Decoder::new().decode(block, FIELDS_MAX) {
            Ok(list) => Ok(Self { list }),
            Err(qpack::Error::HeaderListTooLarge) => {
                Err(Fault::Connection(Code::EXCESSIVE_LOAD, "a header list that is too long"))
            }
            Err(_) => Err(failed("no header list")),
        }
    }

    /// The values of a field, joined as one.
    pub(in crate::io) fn value(&self, name: &str) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = self
            .list
            .iter()
            .filter(|header| header.name() == name.as_bytes())
            .map(Header::value)
            .collect();
        (!values.is_empty()).then(|| values.join(&b", "[..]))
    }

    /// What they are as a request's (RFC 9114 section 4.3.1, RFC 9220).
    ///
    /// # Errors
    /// If they are no request's.
    pub(in crate::io) fn request(&self) -> Result<Request, Fault> {
        let [method, protocol, scheme, authority, path] =
            self.pseudo([":method", ":protocol", ":scheme", ":authority", ":path"])?;
        let method = method.ok_or(malformed("no :method"))?;
        let extended = method == "CONNECT" && protocol.is_some();
        if protocol.is_some() && !extended {
            return Err(malformed(":protocol without CONNECT"));
        }
        let host = self.value("host").map(|host| String::from_utf8_lossy(&host).into_owned());
        if let (Some(authority), Some(host)) = (&authority, &host)
            && authority != host
        {
            return Err(malformed("two authorities"));
        }
        if method == "CONNECT" && !extended {
            let authority = authority.ok_or(malformed("CONNECT without :authority"))?;
            if scheme.is_some() || path.is_some() {
                return Err(malformed("CONNECT with :scheme or :path"));
            }
            let (scheme, path) = (String::new(), String::new());
            return Ok(Request { method, protocol, scheme, authority, path });
        }
        let authority = authority.or(host).filter(|it| !it.is_empty());
        Ok(Request {
            method,
            protocol,
            scheme: scheme.ok_or(malformed("no :scheme"))?,
            authority: authority.ok_or(malformed("no :authority"))?,
            path: path.filter(|it| !it.is_empty()).ok_or(malformed("no :path"))?,
        })
    }

    /// The status that they have as a response's.
    ///
    /// # Errors
    /// If they are no response's.
    pub(in crate::io) fn status(&self) -> Result<u16, Fault> {
        let [status] = self.pseudo([":status"])?;
        status
            .filter(|it| it.len() == 3)
            .and_then(|it| it.parse().ok())
            .ok_or(malformed("no :status"))
    }

    /// The values of these pseudo-header fields; there may be no others, and each stands once,
    /// before all other fields.
    fn pseudo<const N: usize>(&self, names: [&str; N]) -> Result<[Option<String>; N], Fault> {
        let mut values = [const { None }; N];
        let mut in_front = true;
        for header in &self.list {
            check(header)?;
            if header.name().first() != Some(&b':') {
                in_front = false;
                continue;
            }
            if !in_front {
                return Err(malformed("a pseudo-header field behind another field"));
            }
            let place = names.iter().position(|name| name.as_bytes() == header.name());
            let place = place.ok_or(malformed("a pseudo-header field that has no place"))?;
            let value = std::str::from_utf8(header.value())
                .map_err(|_| malformed("a pseudo-header field that is no text"))?;
            if values[place].replace(value.to_owned()).is_some() {
                return Err(malformed("a pseudo-header field is there twice"));
            }
        }
        Ok(values)
    }
}

/// Checks one field's name and value (RFC 9114 section 4.2).
fn check(header: &Header) -> Result<(), Fault> {
    let (name, value) = (header.name(), header.value());
    let plain = name.strip_prefix(b":").unwrap_or(name);
    let in_name = |byte: &u8| {
        matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*')
            || matches!(byte, b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
    };
    if plain.is_empty() || !plain.iter().all(in_name) {
        return Err(malformed("a field's name that is none"));
    }
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        return Err(malformed("a field's value that is none"));
    }
    let of_connection: [&[u8]; 5] =
        [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
    if of_connection.contains(&name) || (name == b"te" && value != b"trailers") {
        return Err(malformed("a field of HTTP/1.1's connections"));
    }
    Ok(())
}

/// A frame of these fields; the QPACK of what we send always has room.
fn frame(fields: &[(&str, &str)]) -> Bytes {
    let list: Vec<Header> =
        fields.iter().map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes())).collect();
    let mut block = vec![0; OURS_MAX];
    let length = qpack::Encoder::new().encode(&list, &mut block).unwrap_or(0);
    headers_frame(&block[..length])
}

/// The request that begins a WebTransport session, for one of `protocols` (a list of RFC 9651).
pub(in crate::io) fn request_head(authority: &str, path: &str, protocols: &str) -> Bytes {
    frame(&[
        (":method", "CONNECT"),
        (":protocol", "webtransport"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", path),
        ("wt-available-protocols", protocols),
    ])
}

/// The response that accepts a session, with the protocol chosen (an item of RFC 9651).
pub(in crate::io) fn response_head(protocol: &str) -> Bytes {
    frame(&[(":status", "200"), ("wt-protocol", protocol)])
}

/// A response of a status alone.
pub(in crate::io) fn status_head(status: u16) -> Bytes {
    frame(&[(":status", &status.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of these fields.
    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let frame = frame(fields);
        let (_, size) = super::super::decode(&frame[1..]).unwrap();
        frame[1 + size..].to_vec()
    }

    #[track_caller]
    fn check(fields: &[(&str, &str)], expected: Result<&str, Code>) {
        let request = Fields::decode(&block(fields)).and_then(|fields| fields.request());
        let came = request
            .map(|it| format!("{} {} {}", it.method, it.authority, it.path))
            .map_err(Fault::code);
        assert_eq!(came.as_deref().map_err(|code| *code), expected, "{fields:?}");
    }

    const CONNECT: [(&str, &str); 5] = [
        (":method", "CONNECT"),
        (":protocol", "webtransport"),
        (":scheme", "https"),
        (":authority", "a:443"),
        (":path", "/x"),
    ];

    /// CONNECT with one more field at the end, in front of it, or one fewer.
    fn with(more: (&'static str, &'static str)) -> Vec<(&'static str, &'static str)> {
        [&CONNECT[..], &[more]].concat()
    }

    #[test]
    fn requests() {
        check(&CONNECT, Ok("CONNECT a:443 /x"));
        check(&with(("x-y", "z")), Ok("CONNECT a:443 /x"));
        check(&[(":method", "CONNECT"), (":authority", "a:1")], Ok("CONNECT a:1 "));
        let get = [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "b")];
        check(&get, Ok("GET b /"));
    }

    #[test]
    fn requests_that_are_none() {
        let wrong = Err(Code::MESSAGE_ERROR);
        for missing in [0, 2, 3, 4] {
            let mut fields = CONNECT.to_vec();
            fields.remove(missing);
            check(&fields, wrong);
        }
        for more in [
            (":method", "CONNECT"),
            (":path", "/y"),
            (":status", "200"),
            (":unknown", "x"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("host", "other"),
            ("x y", "z"),
            ("x", "a\nb"),
            ("x", "a\0b"),
        ] {
            check(&with(more), wrong);
        }
        let behind = [("x", "y"), (":method", "GET"), (":scheme", "https"), (":path", "/")];
        check(&behind, wrong);
        check(&[(":method", "GET"), (":protocol", "webtransport")], wrong);
        check(&[(":method", "CONNECT"), (":authority", "a"), (":path", "/")], wrong);
    }

    #[test]
    fn blocks_that_are_none() {
        let code = |block: &[u8]| match Fields::decode(block) {
            Err(Fault::Connection(code, _)) => Some(code),
            _ => None,
        };
        // Nothing; a Required Insert Count; an index of the dynamic table; one past the static.
        for block in [&b""[..], &[1, 0], &[0, 0, 0x80], &[0, 0, 0xff, 0x60], &[0, 0, 0x27]] {
            assert_eq!(code(block), Some(Code::QPACK_DECOMPRESSION_FAILED), "{block:02x?}");
        }
        let long = "x".repeat(9_000);
        let long = block(&[("a", &long), ("b", &long)]);
        // It is short enough when it is compressed.
        assert!(long.len() < OURS_MAX);
        assert_eq!(code(&long), Some(Code::EXCESSIVE_LOAD));
    }

    #[test]
    fn capital_letters_have_no_place_in_names() {
        // A literal name of two bytes.
        let fields = Fields::decode(&[0, 0, 0x22, b'A', b'b', 1, b'x']).unwrap();
        assert!(matches!(fields.request(), Err(Fault::Stream(Code::MESSAGE_ERROR, _))));
    }
}
