//! What AIP adds to MOQT: the CALL message and its records, the setup options that offer it, and
//! what relays tell each other of the way that an announcement has come.

pub mod call;
pub mod compact;
pub mod hops;
pub mod setup_option;
pub mod trace;
