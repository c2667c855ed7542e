//! What AIP adds to MOQT: the CALL message, its records, and the setup option that offers them.

pub mod call;
pub mod setup_option;
