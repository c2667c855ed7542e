//! How messages stand in the records of a call: its content type (PROFILE.md section 5).

use aip_codec::{
    DecodeError, Violation,
    aip::compact::{self, CONTENT_TYPE},
};
use bytes::{Bytes, BytesMut};

use crate::message::{Limits, Message, ParseError, code};

/// The content type of a call.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Encoding {
    /// JSON text, byte for byte.
    #[default]
    Json,
    /// The same values in fewer bytes, where the server's edge takes it and the value allows it.
    Compact,
}

/// What edges take, as the setup option AIP and the announcement of a server say it.
pub const CONTENT_TYPES: [&str; 2] = ["json", "compact"];

impl Encoding {
    /// The encoding of a call with this CONTENT_TYPE; `None` if it is not known here.
    pub fn of_content_type(content_type: Option<&Bytes>) -> Option<Self> {
        match content_type.map(|content_type| &content_type[..]) {
            None | Some(b"json") => Some(Self::Json),
            Some(CONTENT_TYPE) => Some(Self::Compact),
            Some(_) => None,
        }
    }

    /// The CONTENT_TYPE to say.
    pub const fn content_type(self) -> Option<Bytes> {
        match self {
            Self::Json => None,
            Self::Compact => Some(Bytes::from_static(CONTENT_TYPE)),
        }
    }

    /// A message as a record's payload. What has no compact form of the same value stands as JSON in
    /// a compact call too: its first byte says so.
    pub fn write(self, message: &Message) -> Bytes {
        let text = message.text();
        if self == Self::Compact
            && let Ok(string) = std::str::from_utf8(text)
        {
            let mut bytes = BytesMut::with_capacity(text.len());
            match compact::encode(string, &mut bytes) {
                Ok(()) => return bytes.freeze(),
                Err(error) => tracing::debug!(%error, "a message goes as JSON"),
            }
        }
        text.clone()
    }

    /// The message that a record's payload is.
    ///
    /// # Errors
    /// If it is none, or its text would be longer than it may be.
    pub fn read(self, payload: Bytes, limits: &Limits) -> Result<Message, ParseError> {
        if self == Self::Json || payload.first() == Some(&b'{') {
            return Message::parse(payload, limits);
        }
        let text = compact::decode(&payload, limits.length_max).map_err(|error| ParseError {
            code: match error {
                DecodeError::Violation(Violation::RecordTooLong) => code::INVALID_REQUEST,
                DecodeError::Violation(_) | DecodeError::Incomplete => code::PARSE_ERROR,
            },
            reason: format!("no compact message: {error}"),
        })?;
        Message::parse(Bytes::from(text), limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &'static str, is_smaller: bool) {
        let limits = Limits::default();
        let message = Message::parse(Bytes::from_static(text.as_bytes()), &limits).unwrap();
        let payload = Encoding::Compact.write(&message);
        assert_eq!(payload.len() < text.len(), is_smaller, "{text}");
        let read = Encoding::Compact.read(payload, &limits).unwrap();
        assert_eq!((read.text(), read.kind()), (message.text(), message.kind()));
        assert_eq!(Encoding::Json.write(&message), text);
    }

    #[test]
    fn what_has_no_compact_form_stands_as_json() {
        check(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#, true);
        check(r#"{"jsonrpc":"2.0","id":1,"result":{"big":123456789012345678901234567890}}"#, false);
        check(r#"{"jsonrpc":"2.0","id":1,"result":{"half":"\ud800"}}"#, false);
    }

    #[test]
    fn what_is_too_long_or_none_is_refused() {
        let request = Message::request(crate::message::Id::from_number(1), "ping", "");
        let payload = Encoding::Compact.write(&request);
        let limits = Limits { length_max: 20, ..Limits::default() };
        let error = Encoding::Compact.read(payload, &limits).unwrap_err();
        assert_eq!(error.code, code::INVALID_REQUEST);
        for wrong in [&b""[..], b"\x01", b"\xff", b"\x7b", b"ab"] {
            let payload = Bytes::from_static(wrong);
            let error = Encoding::Compact.read(payload, &Limits::default()).unwrap_err();
            assert_eq!(error.code, code::PARSE_ERROR, "{wrong:?}");
        }
    }
}
