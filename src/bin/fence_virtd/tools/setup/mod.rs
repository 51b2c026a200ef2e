//! `fence_virtd -c`: asks for the settings and writes them into the configuration.
//!
//! 1. `target_file` reads the existing file and finds out where to write.
//! 2. `interview` asks the `questions` for the table of keys in a `dialog`,
//!    and edits the text (`config::Editable`) after each answer.
//! 3. `keys` offers to create missing key files.
//! 4. The changes are shown (`diff`), and written if the last answer is yes.
//!
//! Nothing on disk is changed before that answer.
//!
//! `fence_virtd --add-key` makes the key of a VM (`add_key`).

mod add_key;
mod dialog;
mod diff;
mod draft;
mod interview;
mod keys;
mod questions;
mod run;
mod target_file;

pub(crate) use add_key::add_key;
pub(crate) use run::run;
