//! Controls: what bare quiche and bare UDP cost for the same work, measured beside the relays.

pub mod affinity;
pub mod batch;
pub mod links;
pub mod quiche_relay;
pub mod udp;
