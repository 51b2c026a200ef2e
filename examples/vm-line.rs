//! VM that asks over its serial line, for tests: binds the socket in place of QEMU, waits for the daemon's
//! connection, sends one request and prints the byte of the answer.
//!
//! ```text
//! vm-line SOCKET OPERATION VM
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use fence_virt::fence::{Operation, Request, Target};
use fence_virt::sys::poll::{Interest, PollSet};
use fence_virt::wire::encode_line_request;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Time for the daemon to connect, and then to answer.
const LIMIT: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(verdict) => {
            println!("{verdict}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("vm-line: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome<u8> {
    let [socket, operation, vm] = arguments else {
        return Err("usage: vm-line SOCKET OPERATION VM".into());
    };
    let operation = match operation.as_str() {
        "off" => Operation::Off,
        "status" => Operation::Status,
        other => return Err(format!("{other} is neither off nor status").into()),
    };
    let target = Target::new(vm.as_bytes()).map_err(|error| format!("{vm}: {error:?}"))?;
    match fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    ask(Path::new(socket), &Request { operation, target, seqno: std::process::id() })
}

fn ask(socket: &Path, request: &Request) -> Outcome<u8> {
    let listener = UnixListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    let mut set = PollSet::new();
    set.add(listener.as_fd(), Interest::Read);
    set.wait(Some(LIMIT))?;
    let (mut line, _) = listener.accept().map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => io::Error::other("no daemon connects"),
        _ => error,
    })?;
    line.set_nonblocking(false)?;
    line.set_read_timeout(Some(LIMIT))?;
    line.write_all(&encode_line_request(request, 0))?;
    let mut response = [0; 5];
    line.read_exact(&mut response)?;
    match response {
        [b'a', b'b', b'b', b'a', verdict] => Ok(verdict),
        other => Err(format!("not an answer: {other:?}").into()),
    }
}
