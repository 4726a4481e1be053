//! The reading half of the hub's MQTT endpoint, from the product's own files: all that is before any session.

#![expect(dead_code, unreachable_pub, reason = "the files are the hub's; only what reads is called here")]

#[path = "../../hub/src/publish/endpoint/frame.rs"]
mod frame;
#[path = "../../hub/src/publish/endpoint/limits.rs"]
mod limits;
#[path = "../../hub/src/publish/endpoint/packet.rs"]
mod packet;
#[path = "../../hub/src/publish/endpoint/property.rs"]
mod property;
#[path = "../../hub/src/publish/endpoint/reason.rs"]
mod reason;

/// Reads packets until the bytes end or are refused; panics where more than an honest length was reserved.
pub(crate) fn read(bytes: &[u8]) {
    let limits = limits::Limits::default();
    let mut buffer = bytes::BytesMut::from(bytes);
    while let Ok(Some(frame)) = frame::take_frame(&mut buffer, &limits) {
        if packet::Packet::read(frame).is_err() {
            break;
        }
    }
    let most = 2 * bytes.len() + 2 * limits.packet_bytes_max as usize;
    assert!(buffer.capacity() <= most, "{} bytes are reserved", buffer.capacity());
}
