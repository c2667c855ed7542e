//! `aip-load mcp`: MCP servers by any way: through relays, over Streamable HTTP, over stdio.

mod agents;
pub mod discover;
mod drive;
mod listen;
mod observe;
mod pace;
pub mod plan;
mod recorder;
mod run;
pub mod schema;
pub mod target;
mod template;

pub use self::{
    plan::{Plan, Request},
    run::{Options, run},
    target::{Opener, Target},
};
