//! Faults of network, machine and peers, on real sockets and real relays.
//!
//! Each case gives figures, each beside its goal. The ordinary tests run them small; `make faults`
//! runs them at the size that the goals speak of.

mod agent;
mod case;
mod death;
mod delivery;
mod exhaustion;
mod failover;
mod figure;
mod log;
mod partition;
mod proxy;
mod published;
mod rebinding;
mod relay;
mod sends;
mod sessions;
mod soak;
mod stopped;
mod upstream;
mod words;

pub use self::{
    agent::{Agent, Command, Group, Object, PATIENCE, Role, Told},
    case::{Case, Scale, cases},
    figure::{Figure, Goal, json, table},
    proxy::{Befallen, Hole, Proxy, Weather},
    relay::{Relay, target},
    stopped::world,
};
