//! Vocabulary of fencing: operations, targets, requesters and answers.
#![forbid(unsafe_code)]

mod answer;
mod counted;
mod domain;
mod escape;
mod hash_kind;
mod listener_name;
mod nearest;
mod operation;
mod request;
mod rights;

pub use answer::{Answer, HostEntry, PowerState, Verdict};
pub use counted::counted;
pub use domain::{Domain, UriIndex, Uuid};
pub use escape::{column, is_printable, printable};
pub use hash_kind::HashKind;
pub use listener_name::ListenerName;
pub use nearest::{did_you_mean, nearest};
pub use operation::Operation;
pub use request::{Identity, NAME_MAX, NameError, Request, Source, Target};
pub use rights::Rights;
