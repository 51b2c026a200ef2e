//! Detaching into the background, before any thread exists.
//!
//! 1. [`detach`] forks. The parent waits on a pipe.
//! 2. The child starts up and reports errors on the parent's stderr.
//! 3. [`Background::ready`] redirects stdin, stdout and stderr to /dev/null and
//!    writes a byte: the parent exits with 0. If the child ends earlier, the
//!    pipe closes without a byte: the parent exits with 1.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process;

use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe, setsid};

/// Child's end of the pipe to the waiting parent.
#[derive(Debug)]
pub struct Background {
    pipe: File,
}

/// Forks; returns in the child only. Call it before the first thread starts.
///
/// # Errors
///
/// Errors of pipe(2), fork(2) and setsid(2).
pub fn detach() -> io::Result<Background> {
    let (reader, writer) = pipe()?;
    // SAFETY: the process has one thread, so the child may call anything.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => {
            drop(writer);
            let mut byte = [0];
            let is_ready = File::from(reader).read(&mut byte).is_ok_and(|count| count == 1);
            process::exit(if is_ready { 0 } else { 1 });
        }
        ForkResult::Child => {
            drop(reader);
            setsid()?;
            Ok(Background { pipe: writer.into() })
        }
    }
}

impl Background {
    /// Releases the terminal and the parent.
    ///
    /// # Errors
    ///
    /// /dev/null cannot be opened, or the parent no longer exists.
    pub fn ready(mut self) -> io::Result<()> {
        std::env::set_current_dir("/")?;
        let null_in = File::open("/dev/null")?;
        let null_out = File::options().write(true).open("/dev/null")?;
        dup2_stdin(&null_in)?;
        dup2_stdout(&null_out)?;
        dup2_stderr(&null_out)?;
        self.pipe.write_all(&[1])
    }
}
