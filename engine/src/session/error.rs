//! Why a session ends by a peer's fault, and the one place where that becomes a code.

use aip_codec::{DecodeError, Violation, moqt::error_code::SessionCode};

/// A peer's fault that ends its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// Bytes that are no message.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A valid message where it has no place.
    #[error("misbehaved: {0}")]
    Misbehaved(#[from] Misbehavior),
}

impl From<Violation> for SessionError {
    fn from(violation: Violation) -> Self {
        Self::Malformed(DecodeError::Violation(violation))
    }
}

/// What a peer did at the wrong time or place; one variant for each rule.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehavior {
    /// A second unidirectional stream began with SETUP.
    #[error("second control stream")]
    SecondControlStream,
    /// The control stream did not begin with SETUP, or had a second one.
    #[error("message has no place on the control stream")]
    ControlMessage,
    /// The control stream was ended or reset.
    #[error("control stream closed")]
    ControlStreamClosed,
    /// No SETUP came in time.
    #[error("no SETUP in time")]
    SetupTimeout,
    /// A begun message did not come whole in time.
    #[error("message not complete in time")]
    ControlMessageTimeout,
    /// A begun object did not come whole in time.
    #[error("object not complete in time")]
    DataStreamTimeout,
    /// More than half of its request streams are reset within a second.
    #[error("too many requests reset at once")]
    TooManyResets,
    /// Messages of ours wait for too long, or too many do.
    #[error("messages are not read")]
    MessagesNotRead,
    /// PATH or AUTHORITY came from a server, or over WebTransport.
    #[error("PATH must come from a client")]
    InvalidPath,
    /// AUTHORITY came from a server.
    #[error("AUTHORITY must come from a client")]
    InvalidAuthority,
    /// PATH is no path.
    #[error("malformed PATH")]
    MalformedPath,
    /// AUTHORITY is no authority.
    #[error("malformed AUTHORITY")]
    MalformedAuthority,
    /// A bidirectional stream began with a message that is no request.
    #[error("stream begins with a message that is no request")]
    NotARequest,
    /// CALL without both sides' AIP offers.
    #[error("CALL was not negotiated")]
    CallNotNegotiated,
    /// A request's number has the wrong parity, or came before.
    #[error("invalid request ID")]
    InvalidRequestId,
    /// A message that this kind of request, in this state, does not have.
    #[error("message has no place on this request")]
    UnexpectedMessage,
    /// Track properties in a REQUEST_OK that may not have them.
    #[error("properties have no place in this REQUEST_OK")]
    UnexpectedProperties,
    /// A parameter that this kind of request does not have.
    #[error("parameter has no place on this request")]
    UnexpectedParameter,
    /// FETCH_OK ends before the range begins.
    #[error("FETCH_OK ends before its range begins")]
    FetchEndsBeforeStart,
    /// NAMESPACE_DONE without its NAMESPACE.
    #[error("NAMESPACE_DONE without NAMESPACE")]
    NamespaceDoneFirst,
    /// More unanswered updates than MAX_REQUEST_UPDATES.
    #[error("too many request updates")]
    TooManyRequestUpdates,
    /// A client's GOAWAY, or a redirect to a server, with a URI.
    #[error("a client must not send a URI")]
    UriFromClient,
    /// A redirect of a namespace request names a track.
    #[error("redirect of a namespace names a track")]
    RedirectNamesTrack,
    /// Two GOAWAYs on one stream.
    #[error("second GOAWAY")]
    SecondGoaway,
    /// One track alias for two tracks.
    #[error("duplicate track alias")]
    DuplicateTrackAlias,
    /// A token alias registered twice.
    #[error("duplicate token alias")]
    DuplicateTokenAlias,
    /// More aliased tokens than fit.
    #[error("token cache overflow")]
    TokenCacheOverflow,
    /// DELETE or USE_ALIAS in a client's SETUP.
    #[error("token aliases have no place in SETUP")]
    TokenAliasInSetup,
    /// DELETE of a token alias that is not there.
    #[error("unknown token alias")]
    UnknownTokenAlias,
}

impl SessionError {
    /// The code to close with (draft-22 section 12.1). The only place where faults become codes.
    pub const fn session_code(self) -> SessionCode {
        match self {
            Self::Malformed(error) => error.session_code(),
            Self::Misbehaved(misbehavior) => misbehavior.session_code(),
        }
    }
}

impl Misbehavior {
    const fn session_code(self) -> SessionCode {
        match self {
            Self::SetupTimeout | Self::ControlMessageTimeout | Self::MessagesNotRead => {
                SessionCode::CONTROL_MESSAGE_TIMEOUT
            }
            Self::DataStreamTimeout => SessionCode::DATA_STREAM_TIMEOUT,
            Self::InvalidPath => SessionCode::INVALID_PATH,
            Self::InvalidAuthority => SessionCode::INVALID_AUTHORITY,
            Self::MalformedPath => SessionCode::MALFORMED_PATH,
            Self::MalformedAuthority => SessionCode::MALFORMED_AUTHORITY,
            Self::InvalidRequestId => SessionCode::INVALID_REQUEST_ID,
            Self::TooManyRequestUpdates => SessionCode::TOO_MANY_REQUEST_UPDATES,
            Self::DuplicateTrackAlias => SessionCode::DUPLICATE_TRACK_ALIAS,
            Self::DuplicateTokenAlias => SessionCode::DUPLICATE_AUTH_TOKEN_ALIAS,
            Self::TokenCacheOverflow => SessionCode::AUTH_TOKEN_CACHE_OVERFLOW,
            Self::UnknownTokenAlias => SessionCode::UNKNOWN_AUTH_TOKEN_ALIAS,
            Self::SecondControlStream
            | Self::ControlMessage
            | Self::ControlStreamClosed
            | Self::NotARequest
            | Self::CallNotNegotiated
            | Self::UnexpectedMessage
            | Self::UnexpectedProperties
            | Self::UnexpectedParameter
            | Self::FetchEndsBeforeStart
            | Self::NamespaceDoneFirst
            | Self::UriFromClient
            | Self::RedirectNamesTrack
            | Self::SecondGoaway
            | Self::TooManyResets
            | Self::TokenAliasInSetup => SessionCode::PROTOCOL_VIOLATION,
        }
    }
}
