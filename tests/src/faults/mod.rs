//! Faults of network, machine and peers, on real sockets and real relays.
//!
//! Each case gives figures, each beside its goal. The ordinary tests run them small; `make faults`
//! runs them at the size that the goals speak of.

mod agent;
mod case;
mod death;
mod delivery;
mod exhaustion;
mod figure;
mod proxy;
mod rebinding;
mod relay;
mod soak;

pub use self::{
    agent::{Agent, Command, Group, PATIENCE, Role, Told},
    case::{Case, Scale, cases},
    figure::{Figure, Goal, json, table},
    proxy::{Befallen, Hole, Proxy, Weather},
    relay::{Relay, target},
};
