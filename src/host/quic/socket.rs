//! The socket and the transport settings.
//!
//! Buffers of 4 MiB avoid all loss on loopback (measured); the path MTU is discovered up to 1452,
//! as larger ones together with segmentation offload made no progress. The largest datagram that
//! is taken bounds the receive buffer, which is one such per segment and batch.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    ClientConfig, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig,
    ValidationTokenConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{BindError, NetLimits};
use crate::host::tls::Tls;

/// Opens the socket and returns it with what is needed to dial.
pub(super) fn open(
    listen: SocketAddr,
    tls: &Tls,
    limits: &NetLimits,
) -> Result<(quinn::Endpoint, ClientConfig), BindError> {
    let config = |error: &dyn std::fmt::Display| BindError::Config(error.to_string());
    let idle = IdleTimeout::try_from(limits.idle).map_err(|error| config(&error))?;

    let mut server = ServerConfig::with_crypto(Arc::clone(&tls.server) as _);
    server.transport_config(Arc::new(transport(limits, idle, Side::Accepts)));
    server.max_incoming(limits.strangers_max.saturating_add(limits.waiting_max).max(16));
    server.incoming_buffer_size(INCOMING_BYTES_MAX);
    server.incoming_buffer_size_total(INCOMING_TOTAL_BYTES_MAX);
    // Tokens that are kept between connections are of no use without resumption.
    server.validation_token_config({
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        tokens
    });

    let mut client = ClientConfig::new(Arc::clone(&tls.client) as _);
    client.transport_config(Arc::new(transport(limits, idle, Side::Dials)));

    let mut endpoint = EndpointConfig::default();
    endpoint.max_udp_payload_size(DATAGRAM_BYTES_MAX).map_err(|error| config(&error))?;
    let socket_error = |source| BindError::Socket { addr: listen, source };
    let socket = bind(listen, limits.socket_bytes).map_err(socket_error)?;
    let endpoint = quinn::Endpoint::new(endpoint, Some(server), socket, Arc::new(TokioRuntime));
    Ok((endpoint.map_err(socket_error)?, client))
}

enum Side {
    Accepts,
    Dials,
}

fn transport(limits: &NetLimits, idle: IdleTimeout, side: Side) -> TransportConfig {
    // Who accepts deals with strangers: the window of the whole connection starts small and is
    // widened on admission. Who dials has pinned the peer, and takes no stream from it.
    let (window, streams) = match side {
        Side::Accepts => (limits.stranger_window_bytes.min(limits.window_bytes), 1_u32),
        Side::Dials => (limits.window_bytes, 0),
    };
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .stream_receive_window(VarInt::from_u32(limits.window_bytes))
        .receive_window(VarInt::from_u32(window))
        .send_window(limits.unacked_bytes)
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.keep_alive))
        .crypto_buffer_size(CRYPTO_BYTES_MAX);
    transport
}

fn bind(listen: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let any_v6 = listen.is_ipv6() && listen.ip().is_unspecified();
    match bind_one(listen, any_v6, buffer_bytes) {
        // No IPv6 on this machine, or none that takes IPv4 too.
        Err(error) if any_v6 && error.kind() != io::ErrorKind::AddrInUse => {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), listen.port());
            bind_one(v4, false, buffer_bytes).map_err(|_| error)
        }
        bound => bound,
    }
}

fn bind_one(addr: SocketAddr, dual: bool, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if dual {
        socket.set_only_v6(false)?;
    }
    // Best effort: the kernel cuts it to its maximum, some refuse.
    for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
        if let Err(error) = set(&socket, buffer_bytes) {
            tracing::debug!(%error, "the socket keeps its small buffer");
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// The round trip time that is assumed before one was measured; a lost first packet is sent again
/// after three of them. The usual 333 ms would cost a second each while the socket overflows.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Largest datagram that is taken, in bytes: an Ethernet frame's worth.
const DATAGRAM_BYTES_MAX: u16 = 1500;
/// What one handshake may keep in fragments, in bytes. Our own needs under 2 KiB.
const CRYPTO_BYTES_MAX: usize = 8 << 10;
/// What is kept of a connection that waits to be accepted, in bytes.
const INCOMING_BYTES_MAX: u64 = 8 << 10;
/// What is kept of all of them together, in bytes.
const INCOMING_TOTAL_BYTES_MAX: u64 = 512 << 10;
