//! The cases, and how large they are.

use std::{io, time::Duration};

use super::{
    death, delivery, exhaustion, failover, figure::Figure, log, partition, rebinding, sends, soak,
    stopped, upstream, words,
};

/// How large the cases are.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Deliveries of each kind of weather.
    pub deliveries: u64,
    /// Deliveries of groups in every order.
    pub ordered_deliveries: u64,
    /// Sessions whose address changes.
    pub rebinding_sessions: usize,
    /// How often each one's does.
    pub rebinds: u64,
    /// Upstream relays that die.
    pub kills: usize,
    /// How long processes are stopped.
    pub stop: Duration,
    /// Groups of the soak.
    pub soak_groups: u64,
    /// Whether there are enough groups for a slope that says something.
    pub has_slope: bool,
}

impl Scale {
    /// For every change.
    pub const SHORT: Self = Self {
        deliveries: 240,
        ordered_deliveries: 800,
        rebinding_sessions: 8,
        rebinds: 3,
        kills: 4,
        stop: Duration::from_secs(8),
        soak_groups: 2_000,
        has_slope: false,
    };

    /// What the goals speak of; as many groups as told.
    pub const fn full(soak_groups: u64) -> Self {
        Self {
            deliveries: 4_000,
            ordered_deliveries: 8_000,
            rebinding_sessions: 64,
            rebinds: 10,
            kills: 20,
            stop: Duration::from_secs(20),
            soak_groups,
            has_slope: true,
        }
    }
}

/// A case: what is done, and what gives its figures.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What is done.
    pub what: &'static str,
    /// Does it.
    pub run: fn(Scale) -> io::Result<Vec<Figure>>,
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let case = |name, what, run| Case { name, what, run };
    vec![
        case("loss", "bursts of loss of 2, 5 and 10 % on every leg", delivery::loss),
        case("disorder", "jitter, reordering, duplication, corruption", delivery::disorder),
        case("holes", "1.5 s in which nothing passes, again and again", delivery::holes),
        case("narrow", "the path's MTU falls from 1,500 to 1,280", delivery::narrow),
        case("order", "groups shuffled and reversed, to eight subscribers", delivery::order),
        case("fresh", "the first burst on fresh tracks, to eight subscribers", delivery::fresh),
        case("publisher", "a publisher dies, silently or by SIGKILL", death::publisher),
        case("subscriber", "a subscriber dies silently beside another", death::dying_subscriber),
        case("relay", "a relay is killed and starts again on its port", death::relay),
        case(
            "failover",
            "relays above die in turn, below is one that has both",
            failover::failover,
        ),
        case("upstream", "no relay above, or none as it should be; then one", upstream::upstream),
        case("partition", "one of a ring of three relays is cut off", partition::partition),
        case("rebinding", "every client's address changes, again and again", rebinding::rebinding),
        case("exhaustion", "a relay with 64 descriptors, all taken", exhaustion::exhaustion),
        case("memory", "a relay with 128 MiB, all but taken", exhaustion::memory),
        case("sends", "a system that refuses to send, or has no room", sends::sends),
        case(
            "stopped",
            "everything stands still for a while, or the relay alone",
            stopped::stopped,
        ),
        case("words", "hostile names, reasons and tokens, and where they come out", words::words),
        case("admin", "readers of the admin endpoint that never finish", words::slow_readers),
        case("log", "a log that cannot be written", log::unwritable),
        case("soak", "many groups, and what stays of them", soak::soak),
    ]
}
