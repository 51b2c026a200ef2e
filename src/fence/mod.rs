//! Vocabulary of fencing: operations, targets, requesters and answers.
#![forbid(unsafe_code)]

mod answer;
mod counted;
mod domain;
mod endpoint;
mod escape;
mod hash_kind;
mod key_holder;
mod listener_name;
mod nearest;
mod operation;
mod request;
mod rights;
mod signature_kind;
mod wire_version;

pub use answer::{Answer, HostEntry, PowerState, Verdict};
pub use counted::{counted, listed};
pub use domain::{Domain, UriIndex, Uuid};
pub use endpoint::{Carrier, ENDPOINT_LEN, Endpoint};
pub use escape::{column, is_printable, printable};
pub use hash_kind::HashKind;
pub use key_holder::{KEY_ID_LEN, KeyHolder, KeyId};
pub use listener_name::ListenerName;
pub use nearest::{did_you_mean, nearest};
pub use operation::Operation;
pub use request::{Identity, KeyedSource, NAME_MAX, NameError, Request, Source, Target};
pub use rights::Rights;
pub use signature_kind::SignatureKind;
pub use wire_version::WireVersion;
