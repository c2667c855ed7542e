//! Control messages (draft-22 section 9): one file per family.

mod fetch;
mod frame;
mod goaway;
mod publish;
mod publish_namespace;
mod reason;
mod request;
mod setup;
mod subscribe;
mod subscribe_namespace;
mod subscribe_tracks;
mod track_status;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::version::Version;
use crate::{
    aip::call::Call,
    cursor::Cursor,
    error::{DecodeError, EncodeError, Violation},
    moqt::varint,
};

pub use self::{
    fetch::{Fetch, FetchOk, FetchTarget},
    frame::{Frame, FrameDecoder},
    goaway::{GOAWAY_URI_LENGTH_MAX, Goaway},
    publish::{Publish, PublishDone, PublishStateNotify},
    publish_namespace::PublishNamespace,
    reason::{REASON_LENGTH_MAX, Reason},
    request::{Redirect, RequestError, RequestOk, RequestUpdate},
    setup::Setup,
    subscribe::{Subscribe, SubscribeOk},
    subscribe_namespace::{Namespace, NamespaceDone, SubscribeNamespace},
    subscribe_tracks::{PublishSkipped, SubscribeTracks},
    track_status::TrackStatus,
};

/// Bytes that a message's body may have: its length is 16 bits.
pub const BODY_LENGTH_MAX: usize = u16::MAX as usize;

/// -18's table still lists PUBLISH_OK, whose body is REQUEST_OK's.
const PUBLISH_OK_18: u64 = 0x1e;

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $code:literal since $since:ident,)+) => {
        /// Which message, whatever its draft's number for it.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum MessageType {
            $($(#[$doc])* $name,)+
        }

        impl MessageType {
            /// Every message.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The number on the wire.
            pub const fn code(self) -> u64 {
                match self {
                    $(Self::$name => $code,)+
                }
            }

            /// The message of this number. CALL is one in every draft; whether both ends offered
            /// it is the session's to check.
            ///
            /// # Errors
            /// [`Violation::UnknownMessageType`] if the draft has none.
            pub fn from_code(version: Version, code: u64) -> Result<Self, DecodeError> {
                match code {
                    $($code if Version::$since <= version => Ok(Self::$name),)+
                    PUBLISH_OK_18 if version == Version::Draft18 => Ok(Self::RequestOk),
                    _ => Err(Violation::UnknownMessageType.into()),
                }
            }
        }

        /// A message.
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub enum Message {
            $($(#[$doc])* $name($name),)+
        }

        impl Message {
            /// Which message it is.
            pub const fn message_type(&self) -> MessageType {
                match self {
                    $(Self::$name(_) => MessageType::$name,)+
                }
            }
        }
    };
}

messages! {
    /// SETUP, 0x2F00, first on the control stream.
    Setup = 0x2f00 since Draft18,
    /// GOAWAY, 0x10.
    Goaway = 0x10 since Draft18,
    /// REQUEST_OK, 0x7.
    RequestOk = 0x7 since Draft18,
    /// REQUEST_ERROR, 0x5.
    RequestError = 0x5 since Draft18,
    /// REQUEST_UPDATE, 0x2.
    RequestUpdate = 0x2 since Draft18,
    /// SUBSCRIBE, 0x3.
    Subscribe = 0x3 since Draft18,
    /// SUBSCRIBE_OK, 0x4.
    SubscribeOk = 0x4 since Draft18,
    /// PUBLISH, 0x1D.
    Publish = 0x1d since Draft18,
    /// PUBLISH_DONE, 0xB.
    PublishDone = 0xb since Draft18,
    /// PUBLISH_STATE_NOTIFY, 0x22, drafts 20 and later.
    PublishStateNotify = 0x22 since Draft20,
    /// FETCH, 0x16.
    Fetch = 0x16 since Draft18,
    /// FETCH_OK, 0x18.
    FetchOk = 0x18 since Draft18,
    /// TRACK_STATUS, 0xD.
    TrackStatus = 0xd since Draft18,
    /// PUBLISH_NAMESPACE, 0x6.
    PublishNamespace = 0x6 since Draft18,
    /// SUBSCRIBE_NAMESPACE, 0x50.
    SubscribeNamespace = 0x50 since Draft18,
    /// SUBSCRIBE_TRACKS, 0x51.
    SubscribeTracks = 0x51 since Draft18,
    /// NAMESPACE, 0x8.
    Namespace = 0x8 since Draft18,
    /// NAMESPACE_DONE, 0xE.
    NamespaceDone = 0xe since Draft18,
    /// PUBLISH_SKIPPED, 0xF; draft 18 calls it PUBLISH_BLOCKED.
    PublishSkipped = 0xf since Draft18,
    /// CALL, 0x4A10, AIP's.
    Call = 0x4a10 since Draft18,
}

impl Message {
    /// The message of type `kind` whose body is `body`, all of it.
    ///
    /// # Errors
    /// A [`Violation`] if it is none in this draft; never [`DecodeError::Incomplete`].
    pub fn decode(version: Version, kind: MessageType, body: Bytes) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let message = Self::decode_body(version, kind, &mut cursor)
            .map_err(|error| error.or_if_incomplete(Violation::TruncatedMessage))?;
        if cursor.is_empty() { Ok(message) } else { Err(Violation::TrailingBytes.into()) }
    }

    fn decode_body(
        version: Version,
        kind: MessageType,
        body: &mut Cursor,
    ) -> Result<Self, DecodeError> {
        Ok(match kind {
            MessageType::Setup => Self::Setup(Setup::decode(version, body)?),
            MessageType::Goaway => Self::Goaway(Goaway::decode(version, body)?),
            MessageType::RequestOk => Self::RequestOk(RequestOk::decode(version, body)?),
            MessageType::RequestError => Self::RequestError(RequestError::decode(body)?),
            MessageType::RequestUpdate => {
                Self::RequestUpdate(RequestUpdate::decode(version, body)?)
            }
            MessageType::Subscribe => Self::Subscribe(Subscribe::decode(version, body)?),
            MessageType::SubscribeOk => Self::SubscribeOk(SubscribeOk::decode(version, body)?),
            MessageType::Publish => Self::Publish(Publish::decode(version, body)?),
            MessageType::PublishDone => Self::PublishDone(PublishDone::decode(version, body)?),
            MessageType::PublishStateNotify => {
                Self::PublishStateNotify(PublishStateNotify::decode(version, body)?)
            }
            MessageType::Fetch => Self::Fetch(Fetch::decode(version, body)?),
            MessageType::FetchOk => Self::FetchOk(FetchOk::decode(version, body)?),
            MessageType::TrackStatus => Self::TrackStatus(TrackStatus::decode(version, body)?),
            MessageType::PublishNamespace => {
                Self::PublishNamespace(PublishNamespace::decode(version, body)?)
            }
            MessageType::SubscribeNamespace => {
                Self::SubscribeNamespace(SubscribeNamespace::decode(version, body)?)
            }
            MessageType::SubscribeTracks => {
                Self::SubscribeTracks(SubscribeTracks::decode(version, body)?)
            }
            MessageType::Namespace => Self::Namespace(Namespace::decode(version, body)?),
            MessageType::NamespaceDone => Self::NamespaceDone(NamespaceDone::decode(body)?),
            MessageType::PublishSkipped => Self::PublishSkipped(PublishSkipped::decode(body)?),
            MessageType::Call => Self::Call(Call::decode(version, body)?),
        })
    }

    /// Appends type, length and body. `out` is as before if there is an error.
    ///
    /// # Errors
    /// If the draft has no form for the message or one of its fields, or the body would be longer
    /// than 65,535 bytes.
    pub fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        let result = self.encode_frame(version, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn encode_frame(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let code = self.message_type().code();
        if MessageType::from_code(version, code).is_err() {
            return Err(EncodeError::Unsupported("message"));
        }
        varint::encode(code, out);
        let length_at = out.len();
        out.put_u16(0);
        self.encode_body(version, out)?;
        let body_length = out.len() - length_at - 2;
        let Ok(length) = u16::try_from(body_length) else {
            return Err(EncodeError::TooLong("message"));
        };
        out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn encode_body(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Setup(message) => message.encode(version, out),
            Self::Goaway(message) => message.encode(version, out),
            Self::RequestOk(message) => message.encode(version, out),
            Self::RequestError(message) => message.encode(out),
            Self::RequestUpdate(message) => message.encode(version, out),
            Self::Subscribe(message) => message.encode(version, out),
            Self::SubscribeOk(message) => message.encode(version, out),
            Self::Publish(message) => message.encode(version, out),
            Self::PublishDone(message) => {
                message.encode(version, out);
                Ok(())
            }
            Self::PublishStateNotify(message) => message.encode(version, out),
            Self::Fetch(message) => message.encode(version, out),
            Self::FetchOk(message) => message.encode(version, out),
            Self::TrackStatus(message) => message.encode(version, out),
            Self::PublishNamespace(message) => message.encode(version, out),
            Self::SubscribeNamespace(message) => message.encode(version, out),
            Self::SubscribeTracks(message) => message.encode(version, out),
            Self::Namespace(message) => message.encode(version, out),
            Self::NamespaceDone(message) => {
                message.encode(out);
                Ok(())
            }
            Self::PublishSkipped(message) => {
                message.encode(out);
                Ok(())
            }
            Self::Call(message) => message.encode(version, out),
        }
    }
}
