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

macro_rules! misbehaviors {
    ($($code:ident { $($(#[$doc:meta])* $name:ident = $message:literal,)+ })+) => {
        /// What a peer did at the wrong time or place; one variant for each rule and place where it
        /// is checked, so that counters tell them apart.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
        #[non_exhaustive]
        pub enum Misbehavior {
            $($(
                $(#[$doc])*
                #[error($message)]
                $name,
            )+)+
        }

        impl Misbehavior {
            /// Every variant, in the order of their declaration.
            pub const ALL: &[Self] = &[$($(Self::$name,)+)+];

            /// Its name, as a label of counters.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$name => stringify!($name),)+)+
                }
            }

            /// The code that the draft wants for it.
            const fn session_code(self) -> SessionCode {
                match self {
                    $($(Self::$name)|+ => SessionCode::$code,)+
                }
            }
        }
    };
}

misbehaviors! {
    PROTOCOL_VIOLATION {
        /// A second unidirectional stream began with SETUP.
        SecondControlStream = "second control stream",
        /// A second SETUP.
        SecondSetup = "second SETUP",
        /// Something that is neither SETUP nor GOAWAY on the control stream.
        ControlMessage = "message has no place on the control stream",
        /// The control stream was ended or reset.
        ControlStreamClosed = "control stream closed",
        /// A bidirectional stream began with a message that is no request.
        NotARequest = "stream begins with a message that is no request",
        /// CALL without both sides' AIP offers.
        CallNotNegotiated = "CALL was not negotiated",
        /// HOPS or COST without both sides' RELAY_ID.
        HopsNotNegotiated = "HOPS and COST were not negotiated",
        /// A message that this kind of request, in this state, does not have.
        UnexpectedMessage = "message has no place on this request",
        /// A first answer that this kind of request does not have.
        UnexpectedResponse = "response has no place on this request",
        /// An answer to an update that none has.
        UnexpectedUpdateResponse = "response has no place after an update",
        /// Track properties in a REQUEST_OK that may not have them.
        UnexpectedProperties = "properties have no place in this REQUEST_OK",
        /// Track properties in a REQUEST_OK that answers an update.
        UpdateResponseProperties = "properties have no place in an update's REQUEST_OK",
        /// A parameter that this kind of REQUEST_OK does not have.
        ResponseParameter = "parameter has no place in this REQUEST_OK",
        /// A parameter that the REQUEST_OK of an update does not have.
        UpdateResponseParameter = "parameter has no place in an update's REQUEST_OK",
        /// A parameter that an update of this kind of request does not have.
        UpdateParameter = "parameter has no place in an update of this request",
        /// FETCH_OK ends before the range begins.
        FetchEndsBeforeStart = "FETCH_OK ends before its range begins",
        /// NAMESPACE_DONE without its NAMESPACE.
        NamespaceDoneFirst = "NAMESPACE_DONE without NAMESPACE",
        /// A client's GOAWAY of the session with a URI.
        GoawayUriFromClient = "a client's GOAWAY must not have a URI",
        /// A client's GOAWAY of a request with a URI.
        RequestGoawayUriFromClient = "a client's GOAWAY of a request must not have a URI",
        /// A redirect to a server with a URI.
        RedirectUriFromClient = "a client's redirect must not have a URI",
        /// A redirect of a namespace request names a track.
        RedirectNamesTrack = "redirect of a namespace names a track",
        /// Two GOAWAYs on the control stream.
        SecondGoaway = "second GOAWAY",
        /// Two GOAWAYs on one request's stream.
        SecondRequestGoaway = "second GOAWAY of a request",
        /// More than half of its request streams are reset within a second.
        TooManyResets = "too many requests reset at once",
        /// DELETE or USE_ALIAS in a client's SETUP.
        TokenAliasInSetup = "token aliases have no place in SETUP",
    }
    CONTROL_MESSAGE_TIMEOUT {
        /// No SETUP came in time.
        SetupTimeout = "no SETUP in time",
        /// Messages of ours wait for too long, or too many do.
        MessagesNotRead = "messages are not read",
        /// A begun message did not come whole in time.
        ControlMessageTimeout = "message not complete in time",
    }
    DATA_STREAM_TIMEOUT {
        /// A begun object did not come whole in time.
        DataStreamTimeout = "object not complete in time",
    }
    INVALID_PATH {
        /// PATH came from a server, or over WebTransport.
        InvalidPath = "PATH must come from a client on QUIC alone",
    }
    INVALID_AUTHORITY {
        /// AUTHORITY came from a server.
        InvalidAuthority = "AUTHORITY must come from a client on QUIC alone",
    }
    MALFORMED_PATH {
        /// PATH is no path.
        MalformedPath = "malformed PATH",
    }
    MALFORMED_AUTHORITY {
        /// AUTHORITY is no authority.
        MalformedAuthority = "malformed AUTHORITY",
    }
    INVALID_REQUEST_ID {
        /// A request's number has the parity of the other side's.
        RequestIdParity = "request ID has the wrong parity",
        /// A request's number came before.
        RequestIdRepeated = "request ID came before",
        /// GOAWAY names a request that could not be ours.
        GoawayRequestId = "GOAWAY names a request of the wrong side",
    }
    TOO_MANY_REQUEST_UPDATES {
        /// More unanswered updates than MAX_REQUEST_UPDATES.
        TooManyRequestUpdates = "too many request updates",
    }
    DUPLICATE_TRACK_ALIAS {
        /// One track alias for two tracks.
        DuplicateTrackAlias = "duplicate track alias",
    }
    DUPLICATE_AUTH_TOKEN_ALIAS {
        /// A token alias registered twice.
        DuplicateTokenAlias = "duplicate token alias",
    }
    AUTH_TOKEN_CACHE_OVERFLOW {
        /// More aliased tokens than fit.
        TokenCacheOverflow = "token cache overflow",
    }
    UNKNOWN_AUTH_TOKEN_ALIAS {
        /// DELETE of a token alias that is not there.
        UnknownTokenAlias = "unknown token alias",
    }
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
