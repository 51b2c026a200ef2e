//! Encoding and decoding of the wire formats; docs/WIRE.md has the layouts.
#![forbid(unsafe_code)]

#[cfg(feature = "daemon")]
pub mod cluster;
#[cfg(feature = "daemon")]
mod cluster_notice;
mod cursor;
mod hostlist;
mod line;
mod packet;
mod packet_head;

pub use hostlist::{LIST_BEGIN, RECORD_LEN, Record, decode_record, encode_host_list};
pub use line::{
    LINE_MAGIC, LINE_REQUEST_LEN, LINE_RESPONSE_LEN, can_begin_line_request, decode_line_request,
    encode_line_answer, encode_line_request,
};
pub use packet::{CallbackError, FAMILY_IPV4, FAMILY_IPV6, PACKET_LEN, Packet, Signature};
pub(crate) use packet::{DIGEST_AT, MAC_AT};
pub use packet_head::{BINDING_LEN, Binding, PacketError, PacketHead};
