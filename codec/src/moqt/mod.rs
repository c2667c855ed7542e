//! Media over QUIC Transport, drafts 18 to 22.

pub mod datagram;
pub mod error_code;
pub mod filter;
pub mod id;
pub mod key_value;
pub mod location;
pub mod message;
pub mod name;
pub mod parameter;
pub mod property;
pub mod setup_option;
pub mod stream;
pub mod token;
pub mod varint;
pub mod version;
