//! Serial lines: termios settings and modem lines.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::termios::{
    BaudRate, ControlFlags, FlushArg, InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices,
    cfsetspeed, tcflush, tcgetattr, tcsetattr,
};

/// Time that DTR and RTS stay low in a hang-up, as with the C agent.
pub const HANG_UP: Duration = Duration::from_millis(300);

/// Parity bit of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Even number of ones.
    Even,
    /// Odd number of ones.
    Odd,
    /// Always one.
    Mark,
    /// Always zero.
    Space,
}

/// Speed and character format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// Speed in bits per second, one of [`speeds`].
    pub speed: u32,
    /// Data bits, 5 to 8.
    pub data_bits: u8,
    /// Parity bit.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
            Parity::Mark => 'M',
            Parity::Space => 'S',
        };
        write!(f, "{},{}{parity}{}", self.speed, self.data_bits, self.stop_bits)
    }
}

macro_rules! pairs {
    ($($speed:literal $rate:ident)*) => { [$(($speed, BaudRate::$rate)),*] };
}

/// Speeds of termios(3) on Linux, in bits per second, with their constants.
const RATES: [(u32, BaudRate); 30] = pairs! {
    50 B50  75 B75  110 B110  134 B134  150 B150  200 B200  300 B300  600 B600  1200 B1200  1800 B1800
    2400 B2400  4800 B4800  9600 B9600  19200 B19200  38400 B38400  57600 B57600  115_200 B115200
    230_400 B230400  460_800 B460800  500_000 B500000  576_000 B576000  921_600 B921600
    1_000_000 B1000000  1_152_000 B1152000  1_500_000 B1500000  2_000_000 B2000000
    2_500_000 B2500000  3_000_000 B3000000  3_500_000 B3500000  4_000_000 B4000000
};

/// All speeds, in bits per second.
pub fn speeds() -> impl Iterator<Item = u32> {
    RATES.into_iter().map(|(speed, _)| speed)
}

/// Opens a serial line for reading and writing: non-blocking, and not as the controlling terminal.
///
/// # Errors
///
/// Errors of open(2); `InvalidInput` if it is not a character device.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let file = File::options().read(true).write(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if std::os::unix::fs::FileTypeExt::is_char_device(&kind) {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a character device"))
}

/// Makes the line raw, with hardware flow control, and discards its buffers.
///
/// # Errors
///
/// Errors of tcsetattr(3): ENOTTY if it is not a terminal, EINVAL if the device
/// does not support the framing. `InvalidInput` for a speed not in [`speeds`].
pub fn make_raw(file: &File, framing: Framing) -> io::Result<()> {
    let (_, rate) =
        RATES.into_iter().find(|(speed, _)| *speed == framing.speed).ok_or(io::ErrorKind::InvalidInput)?;
    let mut termios = tcgetattr(file)?;
    termios.input_flags = InputFlags::empty();
    termios.output_flags = OutputFlags::empty();
    termios.local_flags = LocalFlags::empty();
    let mut control = ControlFlags::CREAD | ControlFlags::CLOCAL | ControlFlags::CRTSCTS;
    control |= match framing.data_bits {
        5 => ControlFlags::CS5,
        6 => ControlFlags::CS6,
        7 => ControlFlags::CS7,
        _ => ControlFlags::CS8,
    };
    control |= match framing.parity {
        Parity::None => ControlFlags::empty(),
        Parity::Even => ControlFlags::PARENB,
        Parity::Odd => ControlFlags::PARENB | ControlFlags::PARODD,
        Parity::Mark => ControlFlags::PARENB | ControlFlags::PARODD | ControlFlags::CMSPAR,
        Parity::Space => ControlFlags::PARENB | ControlFlags::CMSPAR,
    };
    if framing.stop_bits == 2 {
        control |= ControlFlags::CSTOPB;
    }
    termios.control_flags = control;
    termios.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    termios.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    cfsetspeed(&mut termios, rate)?;
    tcsetattr(file, SetArg::TCSANOW, &termios)?;
    discard(file)
}

/// Discards unsent output and unread input.
///
/// # Errors
///
/// Errors of tcflush(3).
pub fn discard(file: &File) -> io::Result<()> {
    Ok(tcflush(file, FlushArg::TCIOFLUSH)?)
}

/// Hangs up: drops the modem lines for [`HANG_UP`], restores them, and discards the input that arrived
/// meanwhile. Returns false without any effect if the device has no modem lines (a pty).
///
/// # Errors
///
/// Errors of ioctl(2).
pub fn hang_up(file: &File) -> io::Result<bool> {
    let mut lines: libc::c_int = 0;
    // SAFETY: TIOCMGET writes one int, and `lines` is one.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCMGET, &mut lines) } != 0 {
        return match Errno::last() {
            Errno::ENOTTY | Errno::EINVAL | Errno::ENOSYS => Ok(false),
            errno => Err(errno.into()),
        };
    }
    set_modem_lines(file, 0)?;
    // No event reports that the peer has noticed the hang-up.
    #[allow(clippy::disallowed_methods)]
    thread::sleep(HANG_UP);
    set_modem_lines(file, lines)?;
    discard(file)?;
    Ok(true)
}

fn set_modem_lines(file: &File, lines: libc::c_int) -> io::Result<()> {
    // SAFETY: TIOCMSET reads one int, and `lines` is one.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCMSET, &lines) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::termios::cfgetospeed;

    #[test]
    fn every_speed_reaches_the_line() {
        let pair = openpty(None, None).unwrap();
        let line = File::from(pair.slave);
        for (speed, rate) in RATES {
            let framing = Framing { speed, data_bits: 8, parity: Parity::None, stop_bits: 1 };
            make_raw(&line, framing).unwrap();
            assert_eq!(cfgetospeed(&tcgetattr(&line).unwrap()), rate, "{speed}");
            assert!(format!("{:?}", rate).ends_with(&speed.to_string()), "{speed}");
        }
        let odd = Framing { speed: 115_201, data_bits: 8, parity: Parity::None, stop_bits: 1 };
        assert_eq!(make_raw(&line, odd).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
