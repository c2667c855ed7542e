//! The drafts spoken, chosen once per session by ALPN.

/// A MOQT draft. Ordered by age: `Draft18 < Draft22`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// draft-ietf-moq-transport-18, `moqt-18`.
    Draft18,
    /// draft-ietf-moq-transport-19, `moqt-19`.
    Draft19,
    /// draft-ietf-moq-transport-20, `moqt-20`.
    Draft20,
    /// draft-ietf-moq-transport-21, `moqt-21`.
    Draft21,
    /// draft-ietf-moq-transport-22, `moqt-22`.
    Draft22,
}

impl Version {
    /// Every draft spoken, most preferred first.
    pub const PREFERENCE: [Self; 5] =
        [Self::Draft22, Self::Draft21, Self::Draft20, Self::Draft19, Self::Draft18];

    /// The ALPN token, which is the WebTransport protocol's name too.
    pub const fn alpn(self) -> &'static str {
        match self {
            Self::Draft18 => "moqt-18",
            Self::Draft19 => "moqt-19",
            Self::Draft20 => "moqt-20",
            Self::Draft21 => "moqt-21",
            Self::Draft22 => "moqt-22",
        }
    }

    /// The draft that an ALPN token names; `None` for any other protocol.
    pub fn from_alpn(alpn: &[u8]) -> Option<Self> {
        Self::PREFERENCE.into_iter().find(|version| version.alpn().as_bytes() == alpn)
    }

    /// The draft's number, 18 to 22.
    pub const fn number(self) -> u8 {
        match self {
            Self::Draft18 => 18,
            Self::Draft19 => 19,
            Self::Draft20 => 20,
            Self::Draft21 => 21,
            Self::Draft22 => 22,
        }
    }
}
