//! Why bytes are no value, and why a value has no bytes.

use crate::moqt::error_code::SessionCode;

/// Why bytes are not a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes could make it a value.
    #[error("incomplete")]
    Incomplete,
    /// No bytes after these could.
    #[error("{0}")]
    Violation(#[from] Violation),
}

impl DecodeError {
    /// The code to close the session with. Incomplete here means: incomplete at the end of its message.
    pub const fn session_code(self) -> SessionCode {
        match self {
            Self::Incomplete => SessionCode::PROTOCOL_VIOLATION,
            Self::Violation(violation) => violation.session_code(),
        }
    }

    /// `violation` if there are not enough bytes; for what has to end where it ends.
    pub(crate) const fn or_if_incomplete(self, violation: Violation) -> Self {
        match self {
            Self::Incomplete => Self::Violation(violation),
            Self::Violation(_) => self,
        }
    }
}

macro_rules! violations {
    ($($code:ident { $($(#[$doc:meta])* $name:ident = $message:literal,)+ })+) => {
        /// What a peer did wrong in its bytes; one variant for each rule, so that counters tell
        /// them apart.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
        #[non_exhaustive]
        pub enum Violation {
            $($(
                $(#[$doc])*
                #[error($message)]
                $name,
            )+)+
        }

        impl Violation {
            /// Every variant, in the order of their declaration.
            pub const ALL: &[Self] = &[$($(Self::$name,)+)+];

            /// Its name, as a label of counters.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$name => stringify!($name),)+)+
                }
            }

            /// The code that the draft wants for it.
            pub const fn session_code(self) -> SessionCode {
                match self {
                    $($(Self::$name)|+ => SessionCode::$code,)+
                }
            }
        }
    };
}

violations! {
    PROTOCOL_VIOLATION {
        /// A message type that this draft does not know.
        UnknownMessageType = "unknown message type",
        /// A message's fields end before its length.
        TrailingBytes = "message has trailing bytes",
        /// A message's fields go past its length.
        TruncatedMessage = "message is shorter than its fields",
        /// A namespace of more than 32 fields.
        NamespaceTooManyFields = "namespace has more than 32 fields",
        /// A namespace field without bytes.
        NamespaceFieldEmpty = "namespace field is empty",
        /// A namespace, or a full track name, of more than 4,096 bytes.
        NameTooLong = "name has more than 4,096 bytes",
        /// A reason phrase of more than 1,024 bytes.
        ReasonTooLong = "reason phrase has more than 1,024 bytes",
        /// A key-value pair's type beyond 2^64 - 1.
        KeyTypeOverflow = "key-value type overflows",
        /// A key-value pair's value of more than 65,535 bytes.
        KeyValueTooLong = "key-value value has more than 65,535 bytes",
        /// A block of key-value pairs that ends inside a pair.
        KeyValueTruncated = "key-value block ends inside a pair",
        /// The property DEFAULT_PUBLISHER_GROUP_ORDER is neither 1 nor 2.
        DefaultGroupOrder = "default group order is neither 1 nor 2",
        /// The property DYNAMIC_GROUPS is neither 0 nor 1.
        DynamicGroups = "dynamic groups is neither 0 nor 1",
        /// A setup option that must not repeat does.
        SetupOptionDuplicate = "setup option repeats",
        /// A GOAWAY's URI of more than 8,192 bytes.
        GoawayUriTooLong = "new session URI has more than 8,192 bytes",
        /// A parameter type that this draft does not know.
        ParameterUnknown = "unknown parameter",
        /// A parameter in a message where it has no place.
        ParameterOutOfScope = "parameter has no place in this message",
        /// A parameter that must not repeat does.
        ParameterDuplicate = "parameter repeats",
        /// A parameter type beyond 2^64 - 1.
        ParameterTypeOverflow = "parameter type overflows",
        /// FORWARD is neither 0 nor 1.
        Forward = "forward is neither 0 nor 1",
        /// GROUP_ORDER is neither 1 nor 2.
        GroupOrder = "group order is neither 1 nor 2",
        /// INCLUDE_PROPERTIES is neither 0 nor 1.
        IncludeProperties = "include properties is neither 0 nor 1",
        /// LOCATION_FILTER has a type that this draft does not know.
        LocationFilterType = "unknown location filter type",
        /// LOCATION_FILTER's length is not that of its fields.
        LocationFilterLength = "location filter's length is not that of its fields",
        /// LOCATION_FILTER's end group is beyond 2^64 - 1.
        LocationFilterOverflow = "location filter's end group overflows",
        /// FILL_PARAMETERS is no block of parameters.
        FillParameters = "fill parameters are no parameter block",
        /// FETCH of a type that this draft does not know.
        FetchType = "unknown fetch type",
        /// FETCH_OK's End Of Track is neither 0 nor 1.
        EndOfTrack = "end of track is neither 0 nor 1",
        /// A unidirectional stream of a type that this draft does not know.
        UnknownStreamType = "unknown stream type",
        /// SUBGROUP_HEADER's type flags are not valid together.
        SubgroupFlags = "invalid subgroup header flags",
        /// An object's number beyond 2^64 - 1.
        ObjectIdOverflow = "object number overflows",
        /// An object's status that this draft does not know.
        ObjectStatus = "unknown object status",
        /// An object with a status other than Normal that has properties.
        StatusWithProperties = "object with a status has properties",
        /// An object's properties are longer than we hold.
        PropertiesTooLong = "object properties are too long",
        /// A stream that ends inside a header or an object.
        StreamTruncated = "stream ends inside an object",
        /// A fetch stream that does not begin with FETCH_HEADER.
        FetchHeader = "stream begins with no fetch header",
        /// A fetch record's serialization flags that this draft does not know.
        FetchFlags = "invalid fetch serialization flags",
        /// A fetch stream's first record without its group or its object.
        FetchFirstLocation = "first fetch record has no absolute location",
        /// A fetch record that refers to a priority or a subgroup before there was one.
        FetchPriorMissing = "fetch record refers to an object that is not there",
        /// A fetch record that does not come after the one before.
        FetchNotAscending = "fetch record does not come after the one before",
        /// A fetch record's group, subgroup or object is outside 0 to 2^64 - 1.
        FetchOverflow = "fetch location overflows",
        /// A datagram's type flags are not valid together.
        DatagramFlags = "invalid datagram flags",
        /// A datagram that ends inside its fields.
        DatagramTruncated = "datagram is shorter than its fields",
        /// A datagram that announces properties and has none.
        DatagramPropertiesEmpty = "datagram properties are empty",
        /// A datagram with a status and bytes after it.
        DatagramTrailing = "datagram with a status has trailing bytes",
        /// CALL's IDEMPOTENCY_KEY of more than 64 bytes.
        IdempotencyKeyTooLong = "idempotency key has more than 64 bytes",
        /// CALL's TRACE_CONTEXT of another length than 25 bytes, or with an id of zeros.
        TraceContext = "trace context is not 25 bytes, or names no span",
        /// HOPS is no whole number of relays, or names more than 16.
        Hops = "hops are no list of at most 16 relays",
        /// A CALL record of an unknown type.
        RecordType = "unknown record type",
        /// A CALL record longer than we take.
        RecordTooLong = "record is too long",
        /// A CALL stream that ends inside a record.
        RecordTruncated = "stream ends inside a record",
        /// A CALL error record that is not a code and a reason.
        CallError = "error record is no code and reason",
        /// Bytes of the content type `compact` that are no message.
        Compact = "compact message is malformed",
    }
    KEY_VALUE_FORMATTING_ERROR {
        /// An authorization token without its structure.
        TokenMalformed = "malformed authorization token",
        /// The property DEFAULT_PUBLISHER_PRIORITY is above 255.
        DefaultPublisherPriority = "default publisher priority is above 255",
        /// The setup option AIP is no version and content types.
        AipOption = "malformed AIP setup option",
    }
}

/// Why a value has no bytes in a draft. Always the caller's mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The draft has no form for it.
    #[error("{0} has no form in this draft")]
    Unsupported(&'static str),
    /// A field is longer than the draft allows.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// A field's value contradicts another's, or lies outside what its encoding can say.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// The object's number is not above its predecessor's.
    #[error("objects must ascend in their stream")]
    NotAscending,
}
