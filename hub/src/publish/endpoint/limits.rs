//! Bounds of the endpoint, each named by what it stops.

use std::time::Duration;

/// Bounds everything that a peer, or ten thousand of them, can make the endpoint hold or do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest packet, fixed header included: 128 KiB of payload and 512 bytes for topic and
    /// properties. Checked on the fixed header, before a byte of the rest is buffered.
    pub packet_bytes_max: u32,
    /// Longest packet that is not PUBLISH. A CONNECT with its will, or a SUBSCRIBE of 16 filters, fits
    /// four times; without it, a packet full of two-byte properties would cost the most to read.
    pub other_packet_bytes_max: u32,
    /// Filters that one site may hold. An agent uses three, and a fourth while it fetches.
    pub filters_per_site_max: usize,
    /// Undelivered QoS 1 messages kept for one site; beyond it the oldest unsent one goes.
    pub queued_messages_per_site_max: usize,
    /// Their payload bytes.
    pub queued_bytes_per_site_max: usize,
    /// QoS 1 messages on the wire to one site and not acknowledged, whatever larger number it offers.
    pub in_flight_max: u16,
    /// QoS 1 payload bytes on the wire to one site; one message may always pass.
    pub in_flight_bytes_max: usize,
    /// Bytes that wait for one connection's socket; QoS 0 beyond it is dropped.
    pub send_buffer_bytes_max: usize,
    /// Bytes of answers (PUBACK, PINGRESP) that wait for one socket. A peer that sends but does not read
    /// is not read from beyond it.
    pub unread_answers_bytes_max: usize,
    /// QoS 1 publishes of one site that wait for the commit: the receive maximum that CONNACK announces.
    pub ingest_in_flight_max: u16,
    /// Sites that are connected at once.
    pub connections_max: usize,
    /// Peers that wait for their handshake; beyond it the address with the most of them loses its newest.
    pub waiting_max: usize,
    /// Peers between the first byte of their handshake and CONNACK.
    pub handshakes_max: usize,
    /// Of these, those of one address.
    pub handshakes_per_address_max: usize,
    /// Time from the handshake's turn to CONNACK.
    pub handshake: Duration,
    /// Handshakes a second, sustained: they cost the most of all that a stranger can ask for.
    pub connects_per_s: u32,
    /// Handshakes that may begin at once.
    pub connects_burst: u32,
    /// CONNECTs a second of one site, sustained.
    pub site_connects_per_s: u32,
    /// CONNECTs of one site that may come at once.
    pub site_connects_burst: u32,
    /// Message units a second from one site, sustained. A packet costs one unit and one more for each
    /// 4 KiB, so 256 units are 256 small packets or 1 MiB.
    pub units_per_s: u32,
    /// Message units that may come at once. A site that connects again goes on with what it has left.
    pub units_burst: u32,
    /// Message units that a message costs on top which the site may not say, or nobody can read.
    pub refused_units: u32,
    /// Time in which the socket of a connection takes nothing of what waits for it. The kernel says that
    /// there is room again after a third of its buffer: at 300 bytes a second in time.
    pub stalled: Duration,
    /// Bytes that the kernel keeps for one connection, each way. Without it a peer that reads nothing
    /// costs 4 MiB there, on top of all that is bounded here.
    pub socket_buffer_bytes: u32,
    /// Longest keep-alive granted; 0 (never) is answered with it.
    pub keep_alive_s_max: u16,
    /// Longest session expiry granted.
    pub session_expiry_s_max: u32,
    /// Time that a stopping endpoint gives its connections to write what waits.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 128 * 1024 + 512,
            other_packet_bytes_max: 16 * 1024,
            filters_per_site_max: 16,
            queued_messages_per_site_max: 256,
            queued_bytes_per_site_max: 1024 * 1024,
            in_flight_max: 16,
            in_flight_bytes_max: 512 * 1024,
            send_buffer_bytes_max: 1024 * 1024,
            unread_answers_bytes_max: 16 * 1024,
            ingest_in_flight_max: 16,
            connections_max: 20_000,
            waiting_max: 4_096,
            handshakes_max: 1_024,
            handshakes_per_address_max: 512,
            handshake: Duration::from_secs(10),
            connects_per_s: 1_000,
            connects_burst: 2_000,
            site_connects_per_s: 1,
            site_connects_burst: 20,
            units_per_s: 256,
            units_burst: 1_024,
            refused_units: 16,
            stalled: Duration::from_secs(300),
            socket_buffer_bytes: 128 * 1024,
            keep_alive_s_max: 1_200,
            session_expiry_s_max: 7 * 24 * 3600,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
