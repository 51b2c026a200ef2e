//! Channel that wakes poll(2): crossbeam's, with an eventfd.
//!
//! 1. [`MailboxSender::post`] puts a message into the channel, then signals the eventfd.
//! 2. The owner polls [`Mailbox::as_fd`] for readability.
//! 3. [`Mailbox::take`] resets the eventfd first and then empties the channel,
//!    so a message that arrives in between signals it again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Receiving end.
#[derive(Debug)]
pub struct Mailbox<T> {
    receiver: Receiver<T>,
    eventfd: Arc<EventFd>,
}

/// Sending end, to be cloned for other threads. The channel is unbounded: its
/// users bound the messages, for example to one answer for each request.
#[derive(Debug)]
pub struct MailboxSender<T> {
    sender: Sender<T>,
    eventfd: Arc<EventFd>,
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> MailboxSender<T> {
        MailboxSender { sender: self.sender.clone(), eventfd: self.eventfd.clone() }
    }
}

/// Makes a mailbox and its first sender.
///
/// # Errors
///
/// Errors of eventfd(2), such as EMFILE.
pub fn mailbox<T>() -> io::Result<(MailboxSender<T>, Mailbox<T>)> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let eventfd = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    let (sender, receiver) = unbounded();
    Ok((MailboxSender { sender, eventfd: eventfd.clone() }, Mailbox { receiver, eventfd }))
}

impl<T> MailboxSender<T> {
    /// Sends a message.
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox no longer exists.
    pub fn post(&self, message: T) -> Result<(), T> {
        self.sender.send(message).map_err(|error| error.0)?;
        // EAGAIN: the counter is full, so the eventfd is signalled already.
        while let Err(Errno::EINTR) = self.eventfd.write(1) {}
        Ok(())
    }
}

impl<T> Mailbox<T> {
    /// Takes all pending messages.
    pub fn take(&self) -> impl Iterator<Item = T> + '_ {
        // EAGAIN: the counter is zero, so there is nothing to reset.
        while let Err(Errno::EINTR) = self.eventfd.read() {}
        self.receiver.try_iter()
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{Interest, PollSet};
    use std::time::Duration;

    #[test]
    fn a_message_wakes_poll_and_reading_resets_it() {
        let (sender, mailbox) = mailbox().unwrap();
        let awake = |wait| {
            let mut set = PollSet::new();
            let slot = set.add(mailbox.as_fd(), Interest::Read);
            set.wait(Some(wait)).unwrap();
            set.ready(slot).any()
        };
        assert!(!awake(Duration::ZERO));
        std::thread::scope(|scope| {
            scope.spawn(|| sender.post(1).unwrap());
            assert!(awake(Duration::from_secs(30)));
        });
        sender.post(2).unwrap();
        assert_eq!(mailbox.take().collect::<Vec<_>>(), [1, 2]);
        assert!(!awake(Duration::ZERO));
    }

    #[test]
    fn a_message_without_a_reader_comes_back() {
        let (sender, mailbox) = mailbox::<u8>().unwrap();
        drop(mailbox);
        assert_eq!(sender.post(7), Err(7));
    }
}
