//! History of power operations: the records, bounded fairly among their requesters, and their form in a file.
//!
//! (`history` is another thing: the requests by which duplicates are recognised.)
#![forbid(unsafe_code)]

mod file_text;
mod log;
mod record;
mod wall_time;

pub use file_text::{FILE_BYTES_MAX, FILE_RECORDS_MAX, HEADER, KeptHistory, decode, encode};
pub use log::{NumberedRecord, OPERATIONS_MAX, PowerLog, REFUSALS_MAX};
pub use record::{PowerRecord, PowerVerdict, share_of};
pub use wall_time::WallTime;
