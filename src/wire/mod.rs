//! The bytes of the wire: decoding and encoding, nothing else. docs/WIRE.md
//! has the layouts.
#![forbid(unsafe_code)]

mod cursor;
mod hostlist;
mod packet;

pub use hostlist::{RECORD_LEN, encode_host_list};
pub use packet::{CallbackError, FAMILY_IPV4, FAMILY_IPV6, PACKET_LEN, Packet, PacketError, PacketHead};
