//! `fence_virtd -c`: asks for the settings and writes them into the
//! configuration file.
//!
//! 1. `target_file` reads the file that is there and finds out where to write.
//! 2. `interview` asks, through a `dialog`, what `questions` makes of the table
//!    of keys, and changes the text (`config::Editable`) answer by answer.
//! 3. `keys` offers to make key files that are missing.
//! 4. What changes is shown (`diff`), and written if the last answer is yes.
//!
//! Nothing on disk is changed before that answer.

mod dialog;
mod diff;
mod draft;
mod interview;
mod keys;
mod questions;
mod run;
mod target_file;

pub(crate) use run::run;
