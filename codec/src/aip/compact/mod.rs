//! The content type `compact`: JSON-RPC messages of MCP as the AIP draft's structures (PROFILE.md
//! section 5.1).
//!
//! [`encode`] and [`decode`] go from JSON text to bytes and back to JSON text of the same value, with
//! the members of every object but the outermost and an error in their order. What would not come
//! back as the same value is refused.

mod decode;
mod encode;
mod number;
mod registry;
mod scan;

pub use self::{
    decode::decode,
    encode::{Unencodable, encode},
};

/// The content type's name.
pub const CONTENT_TYPE: &[u8] = b"compact";

/// Arrays and objects within one another, in `params`, `result` or `error`.
pub const DEPTH_MAX: usize = 128;

/// What a message begins with.
mod kind {
    pub(super) const REQUEST: u64 = 1;
    pub(super) const RESULT: u64 = 2;
    pub(super) const ERROR: u64 = 3;
    pub(super) const NOTIFICATION: u64 = 4;
}

/// What an id begins with.
mod id {
    /// There is none.
    pub(super) const ABSENT: u64 = 0;
    /// A string: length and bytes.
    pub(super) const TEXT: u64 = 1;
    /// An integer that is not negative.
    pub(super) const POSITIVE: u64 = 2;
    /// A negative integer n, as -1 - n.
    pub(super) const NEGATIVE: u64 = 3;
    pub(super) const NULL: u64 = 4;
}

/// What `params` or `result` begins with; greater is the number of members and [`body::MEMBERS`].
mod body {
    /// There is none.
    pub(super) const ABSENT: u64 = 0;
    /// It is no object: one value, with its length before it.
    pub(super) const VALUE: u64 = 1;
    /// An object; the number of its members is added.
    pub(super) const MEMBERS: u64 = 2;
}

/// The first byte of a value.
mod head {
    /// Below: an integer that is not negative and smaller than this.
    pub(super) const INTEGERS: u8 = 0x40;
    /// From here: a string of so many bytes, fewer than 64.
    pub(super) const STRING: u8 = 0x40;
    /// From here: an object of so many members, fewer than 32.
    pub(super) const OBJECT: u8 = 0x80;
    /// From here: an array of so many values, fewer than 32.
    pub(super) const ARRAY: u8 = 0xa0;
    pub(super) const NULL: u8 = 0xc0;
    pub(super) const FALSE: u8 = 0xc1;
    pub(super) const TRUE: u8 = 0xc2;
    /// vi64.
    pub(super) const POSITIVE: u8 = 0xc3;
    /// vi64 of -1 - n.
    pub(super) const NEGATIVE: u8 = 0xc4;
    /// Eight bytes, the greatest first.
    pub(super) const FLOAT: u8 = 0xc5;
    /// Length and bytes.
    pub(super) const LONG_STRING: u8 = 0xc6;
    /// Number of values, and they.
    pub(super) const LONG_ARRAY: u8 = 0xc7;
    /// Number of members, and they.
    pub(super) const LONG_OBJECT: u8 = 0xc8;
    /// TOOL: its name, number of other members, and they.
    pub(super) const TOOL: u8 = 0xc9;
    /// PROMPT: the same.
    pub(super) const PROMPT: u8 = 0xca;
    /// RESOURCE: its URI, number of other members, and they.
    pub(super) const RESOURCE: u8 = 0xcb;
}

/// Structures of the draft that stand in lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Structure {
    Tool,
    Prompt,
    Resource,
}

impl Structure {
    /// What the values of this member of a result are.
    fn of_list(member: &str) -> Option<Self> {
        match member {
            "tools" => Some(Self::Tool),
            "prompts" => Some(Self::Prompt),
            "resources" => Some(Self::Resource),
            _ => None,
        }
    }

    const fn head(self) -> u8 {
        match self {
            Self::Tool => head::TOOL,
            Self::Prompt => head::PROMPT,
            Self::Resource => head::RESOURCE,
        }
    }

    /// The member that stands first in it, a string.
    const fn first(self) -> &'static str {
        match self {
            Self::Tool | Self::Prompt => "name",
            Self::Resource => "uri",
        }
    }
}

#[cfg(test)]
mod tests;
