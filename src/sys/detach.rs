//! Going into the background before there is any thread.
//!
//! 1. [`detach`] forks. The parent waits on a pipe.
//! 2. The child starts up, its stderr still that of the parent, so that it
//!    can say why it fails.
//! 3. [`Background::ready`] gives stdin, stdout and stderr to /dev/null and
//!    writes a byte: the parent exits 0. If the child ends before, the pipe
//!    closes empty: the parent exits 1.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process;

use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe, setsid};

/// The child's end of the pipe to the waiting parent.
#[derive(Debug)]
pub struct Background {
    pipe: File,
}

/// Forks; returns in the child only. Call it before the first thread starts.
///
/// # Errors
///
/// pipe(2)'s, fork(2)'s or setsid(2)'s.
pub fn detach() -> io::Result<Background> {
    let (reader, writer) = pipe()?;
    // SAFETY: the caller has no other thread, so the child may do whatever the parent could.
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
    /// Lets go of the terminal and of the parent.
    ///
    /// # Errors
    ///
    /// If /dev/null cannot be had or the parent is gone.
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
