//! Error codes of drafts 18 to 22 (draft-22 section 16.11). A code that is not known is INTERNAL_ERROR.

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($constant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub u64);

        impl $name {
            $(
                #[doc = concat!("`", stringify!($constant), "`, ", stringify!($value), ".")]
                pub const $constant: Self = Self($value);
            )+

            /// Every code that a draft registers.
            pub const ALL: &[Self] = &[$(Self::$constant,)+];

            /// The draft's name of this code; `UNKNOWN` for one that no draft registers.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($value => stringify!($constant),)+
                    _ => "UNKNOWN",
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{} (0x{:x})", self.name(), self.0)
            }
        }
    };
}

codes! {
    /// Why a session ends.
    SessionCode {
        NO_ERROR = 0x0,
        INTERNAL_ERROR = 0x1,
        UNAUTHORIZED = 0x2,
        PROTOCOL_VIOLATION = 0x3,
        INVALID_REQUEST_ID = 0x4,
        DUPLICATE_TRACK_ALIAS = 0x5,
        KEY_VALUE_FORMATTING_ERROR = 0x6,
        INVALID_PATH = 0x8,
        MALFORMED_PATH = 0x9,
        GOAWAY_TIMEOUT = 0x10,
        CONTROL_MESSAGE_TIMEOUT = 0x11,
        DATA_STREAM_TIMEOUT = 0x12,
        AUTH_TOKEN_CACHE_OVERFLOW = 0x13,
        DUPLICATE_AUTH_TOKEN_ALIAS = 0x14,
        VERSION_NEGOTIATION_FAILED = 0x15,
        MALFORMED_AUTH_TOKEN = 0x16,
        UNKNOWN_AUTH_TOKEN_ALIAS = 0x17,
        EXPIRED_AUTH_TOKEN = 0x18,
        INVALID_AUTHORITY = 0x19,
        MALFORMED_AUTHORITY = 0x1a,
        TOO_MANY_REQUEST_UPDATES = 0x1b,
    }
}

codes! {
    /// Why a request is refused.
    RequestCode {
        INTERNAL_ERROR = 0x0,
        UNAUTHORIZED = 0x1,
        TIMEOUT = 0x2,
        NOT_SUPPORTED = 0x3,
        MALFORMED_AUTH_TOKEN = 0x4,
        EXPIRED_AUTH_TOKEN = 0x5,
        GOING_AWAY = 0x6,
        EXCESSIVE_LOAD = 0x9,
        DOES_NOT_EXIST = 0x10,
        INVALID_RANGE = 0x11,
        MALFORMED_TRACK = 0x12,
        DUPLICATE_SUBSCRIPTION = 0x19,
        UNINTERESTED = 0x20,
        PREFIX_OVERLAP = 0x30,
        NAMESPACE_TOO_LARGE = 0x31,
        INVALID_JOINING_REQUEST_ID = 0x32,
        UNSUPPORTED_EXTENSION = 0x33,
        REDIRECT = 0x34,
        CONFLICTING_FILTERS = 0x35,
        INVALID_FILTER = 0x36,
    }
}

codes! {
    /// Why a subscription ends.
    PublishDoneCode {
        INTERNAL_ERROR = 0x0,
        UNAUTHORIZED = 0x1,
        TRACK_ENDED = 0x2,
        SUBSCRIPTION_ENDED = 0x3,
        GOING_AWAY = 0x4,
        TOO_FAR_BEHIND = 0x5,
        EXPIRED = 0x6,
        UPDATE_FAILED = 0x8,
        EXCESSIVE_LOAD = 0x9,
        MALFORMED_TRACK = 0x12,
    }
}

codes! {
    /// Why a stream is reset, or its reading stopped.
    ResetCode {
        INTERNAL_ERROR = 0x0,
        CANCELLED = 0x1,
        DELIVERY_TIMEOUT = 0x2,
        SESSION_CLOSED = 0x3,
        GOING_AWAY = 0x4,
        TOO_FAR_BEHIND = 0x5,
        UNKNOWN_OBJECT_STATUS = 0x6,
        EXPIRED_AUTH_TOKEN = 0x7,
        EXCESSIVE_LOAD = 0x9,
        MALFORMED_TRACK = 0x12,
    }
}
