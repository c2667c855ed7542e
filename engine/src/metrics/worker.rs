//! What one worker counts: connections, packets, streams, turns.

use super::description::counters;

counters! {
    /// What a worker counts. Totals grow for ever, gauges go up and down.
    Counters {
        sessions: Gauge Count "sessions" "Sessions that are up.",
        sessions_total: Counter Count "sessions_opened" "Sessions that came up.",
        sessions_timed_out_total: Counter Count "sessions_timed_out" "Sessions lost to silence or a stateless reset.",
        connections: Gauge Count "connections" "QUIC connections in memory, also those being opened or closed.",
        handshakes_half_open: Gauge Count "handshakes_half_open" "Accepted connections whose handshake is under way.",
        handshakes_total: Counter Count "handshakes" "Handshakes begun by clients.",
        handshakes_failed_total: Counter Count "handshakes_failed" "Handshakes that failed or took too long.",
        handshakes_refused_total: Counter Count "handshakes_refused" "Handshakes ignored because of a limit or a drain.",
        dials_total: Counter Count "dials" "Tries to reach a target.",
        dials_failed_total: Counter Count "dials_failed" "Tries to reach a target that failed.",
        retries_total: Counter Count "retries" "Retry packets sent.",
        retry_tokens_refused_total: Counter Count "retry_tokens_refused" "Retry tokens that were forged, old or another's.",
        version_negotiations_total: Counter Count "version_negotiations" "Version negotiation packets sent.",
        stateless_resets_total: Counter Count "stateless_resets" "Stateless resets sent.",
        packets_dropped_total: Counter Count "packets_dropped" "Received packets that belong to nothing.",
        migrations_total: Counter Count "migrations" "Sessions whose peer moved to another address.",
        path_mtu_revalidations_total: Counter Count "path_mtu_revalidations" "Times that a path was suspected to have become narrower.",
        streams_reset_total: Counter Count "streams_reset" "Streams reset by peers.",
        streams_stopped_total: Counter Count "streams_stopped" "Streams that peers asked to stop.",
        stream_bytes_received_total: Counter Bytes "stream_received" "Stream bytes handed up.",
        stream_bytes_sent_total: Counter Bytes "stream_sent" "Stream bytes handed to QUIC.",
        stream_bytes_queued: Gauge Bytes "stream_queued" "Stream bytes that wait above QUIC.",
        stream_bytes_dropped_total: Counter Bytes "stream_dropped" "Queued stream bytes that were never sent.",
        datagrams_received_total: Counter Count "datagrams_received" "QUIC datagrams handed up.",
        datagrams_sent_total: Counter Count "datagrams_sent" "QUIC datagrams handed to QUIC.",
        datagrams_dropped_total: Counter Count "datagrams_dropped" "QUIC datagrams too large for their path or its queue.",
        udp_received_total: Counter Count "udp_received" "UDP datagrams received.",
        udp_received_bytes_total: Counter Bytes "udp_received" "Bytes of UDP datagrams received.",
        udp_receive_calls_total: Counter Count "udp_receive_calls" "System calls that received.",
        udp_receive_errors_total: Counter Count "udp_receive_errors" "System calls that failed to receive.",
        udp_sent_total: Counter Count "udp_sent" "UDP datagrams sent.",
        udp_sent_bytes_total: Counter Bytes "udp_sent" "Bytes of UDP datagrams sent.",
        udp_send_calls_total: Counter Count "udp_send_calls" "System calls that sent.",
        udp_send_refused_total: Counter Count "udp_send_refused" "UDP datagrams that the system refused.",
        udp_send_blocked_total: Counter Count "udp_send_blocked" "Times that the system took no more for now.",
        chunks_allocated_total: Counter Count "chunks_allocated" "Receive chunks allocated; constant once use is steady.",
        commands_total: Counter Count "commands" "Commands taken from the mailbox.",
        busy_nanoseconds_total: Counter Nanoseconds "busy" "Time not spent waiting.",
    }
}
