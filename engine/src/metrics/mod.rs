//! Counters of one worker, and their exposition.
//!
//! Plain integers that one thread owns: counting costs an addition. Others see copies.

use std::fmt::{self, Write as _};

macro_rules! counters {
    ($($field:ident: $kind:ident $name:literal $help:literal,)+) => {
        /// What a worker counts. Totals grow for ever, gauges go up and down.
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        #[non_exhaustive]
        pub struct Counters {
            $(
                #[doc = $help]
                pub $field: u64,
            )+
        }

        impl Counters {
            /// Adds each counter of another worker.
            pub const fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }

            /// Calls `each` with name, kind, help and value of every counter.
            fn for_each(
                &self,
                mut each: impl FnMut(&'static str, &'static str, &'static str, u64) -> fmt::Result,
            ) -> fmt::Result {
                $(each($name, stringify!($kind), $help, self.$field)?;)+
                Ok(())
            }
        }
    };
}

counters! {
    sessions: gauge "aip_sessions" "Sessions that are up.",
    sessions_total: counter "aip_sessions_total" "Sessions that came up.",
    sessions_timed_out_total: counter "aip_sessions_timed_out_total" "Sessions lost to silence or a stateless reset.",
    connections: gauge "aip_connections" "QUIC connections in memory, also those being opened or closed.",
    handshakes_half_open: gauge "aip_handshakes_half_open" "Accepted connections whose handshake is under way.",
    handshakes_total: counter "aip_handshakes_total" "Handshakes begun by clients.",
    handshakes_failed_total: counter "aip_handshakes_failed_total" "Handshakes that failed or took too long.",
    handshakes_refused_total: counter "aip_handshakes_refused_total" "Handshakes ignored because of a limit or a drain.",
    dials_total: counter "aip_dials_total" "Tries to reach a target.",
    dials_failed_total: counter "aip_dials_failed_total" "Tries to reach a target that failed.",
    retries_total: counter "aip_retries_total" "Retry packets sent.",
    retry_tokens_refused_total: counter "aip_retry_tokens_refused_total" "Retry tokens that were forged, old or another's.",
    version_negotiations_total: counter "aip_version_negotiations_total" "Version negotiation packets sent.",
    stateless_resets_total: counter "aip_stateless_resets_total" "Stateless resets sent.",
    packets_dropped_total: counter "aip_packets_dropped_total" "Received packets that belong to nothing.",
    migrations_total: counter "aip_migrations_total" "Sessions whose peer moved to another address.",
    path_mtu_revalidations_total: counter "aip_path_mtu_revalidations_total" "Times that a path was suspected to have become narrower.",
    streams_reset_total: counter "aip_streams_reset_total" "Streams reset by peers.",
    streams_stopped_total: counter "aip_streams_stopped_total" "Streams that peers asked to stop.",
    stream_bytes_received_total: counter "aip_stream_bytes_received_total" "Stream bytes handed up.",
    stream_bytes_sent_total: counter "aip_stream_bytes_sent_total" "Stream bytes handed to QUIC.",
    stream_bytes_queued: gauge "aip_stream_bytes_queued" "Stream bytes that wait above QUIC.",
    stream_bytes_dropped_total: counter "aip_stream_bytes_dropped_total" "Queued stream bytes that were never sent.",
    datagrams_received_total: counter "aip_datagrams_received_total" "QUIC datagrams handed up.",
    datagrams_sent_total: counter "aip_datagrams_sent_total" "QUIC datagrams handed to QUIC.",
    datagrams_dropped_total: counter "aip_datagrams_dropped_total" "QUIC datagrams too large for their path or its queue.",
    udp_received_total: counter "aip_udp_received_total" "UDP datagrams received.",
    udp_received_bytes_total: counter "aip_udp_received_bytes_total" "Bytes of UDP datagrams received.",
    udp_receive_calls_total: counter "aip_udp_receive_calls_total" "System calls that received.",
    udp_receive_errors_total: counter "aip_udp_receive_errors_total" "System calls that failed to receive.",
    udp_sent_total: counter "aip_udp_sent_total" "UDP datagrams sent.",
    udp_sent_bytes_total: counter "aip_udp_sent_bytes_total" "Bytes of UDP datagrams sent.",
    udp_send_calls_total: counter "aip_udp_send_calls_total" "System calls that sent.",
    udp_send_refused_total: counter "aip_udp_send_refused_total" "UDP datagrams that the system refused.",
    udp_send_blocked_total: counter "aip_udp_send_blocked_total" "Times that the system took no more for now.",
    chunks_allocated_total: counter "aip_chunks_allocated_total" "Receive chunks allocated; constant once use is steady.",
    commands_total: counter "aip_commands_total" "Commands taken from the mailbox.",
    turns_total: counter "aip_turns_total" "Turns of the worker's loop.",
    busy_nanoseconds_total: counter "aip_busy_nanoseconds_total" "Time not spent waiting.",
    turn_nanoseconds_max: gauge "aip_turn_nanoseconds_max" "The longest turn since the last snapshot.",
}

impl Counters {
    /// The Prometheus text format, version 0.0.4.
    pub fn exposition(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        let written = self.for_each(|name, kind, help, value| {
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        });
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_exposed_once() {
        let counters = Counters { sessions: 3, udp_sent_total: 7, ..Counters::default() };
        let text = counters.exposition();
        assert!(text.contains("# TYPE aip_sessions gauge\naip_sessions 3\n"));
        assert!(text.contains("# TYPE aip_udp_sent_total counter\naip_udp_sent_total 7\n"));
        let mut names: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn totals_have_their_suffix() {
        let outcome = Counters::default().for_each(|name, kind, _, _| {
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            Ok(())
        });
        assert_eq!(outcome, Ok(()));
    }

    #[test]
    fn workers_add_up() {
        let mut sum = Counters { sessions: 1, ..Counters::default() };
        sum.add(&Counters { sessions: 2, turns_total: 5, ..Counters::default() });
        assert_eq!((sum.sessions, sum.turns_total), (3, 5));
    }
}
