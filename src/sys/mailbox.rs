//! A channel whose arrival wakes poll(2): crossbeam's, with an eventfd beside it.
//!
//! 1. [`MailboxSender::post`] puts a message into the channel, then rings the eventfd.
//! 2. The owner polls [`Mailbox::as_fd`] for readability.
//! 3. [`Mailbox::take`] silences the bell first and then empties the channel,
//!    so a message that comes in between rings again and is not overlooked.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// The receiving end.
#[derive(Debug)]
pub struct Mailbox<T> {
    receiver: Receiver<T>,
    bell: Arc<EventFd>,
}

/// A sending end; it can be cloned and handed to other threads. The channel
/// has no bound of its own: what is posted is bounded by what was asked for.
#[derive(Debug)]
pub struct MailboxSender<T> {
    sender: Sender<T>,
    bell: Arc<EventFd>,
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> MailboxSender<T> {
        MailboxSender { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

/// Makes a mailbox and its first address.
///
/// # Errors
///
/// When no descriptor is left for the eventfd.
pub fn mailbox<T>() -> io::Result<(MailboxSender<T>, Mailbox<T>)> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let bell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    let (sender, receiver) = unbounded();
    Ok((MailboxSender { sender, bell: bell.clone() }, Mailbox { receiver, bell }))
}

impl<T> MailboxSender<T> {
    /// Posts a message. Gives it back if its reader is gone.
    ///
    /// # Errors
    ///
    /// The message, unread.
    pub fn post(&self, message: T) -> Result<(), T> {
        self.sender.send(message).map_err(|error| error.0)?;
        // A full counter (EAGAIN) rings already.
        while let Err(Errno::EINTR) = self.bell.write(1) {}
        Ok(())
    }
}

impl<T> Mailbox<T> {
    /// All messages that are here now.
    pub fn take(&self) -> impl Iterator<Item = T> + '_ {
        // An empty counter (EAGAIN) is silent already.
        while let Err(Errno::EINTR) = self.bell.read() {}
        self.receiver.try_iter()
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{Interest, PollSet};
    use std::time::Duration;

    #[test]
    fn a_message_wakes_poll_and_reading_silences_it() {
        let (address, mailbox) = mailbox().unwrap();
        let awake = |wait| {
            let mut set = PollSet::new();
            let slot = set.add(mailbox.as_fd(), Interest::Read);
            set.wait(Some(wait)).unwrap();
            set.ready(slot).any()
        };
        assert!(!awake(Duration::ZERO));
        std::thread::scope(|scope| {
            scope.spawn(|| address.post(1).unwrap());
            assert!(awake(Duration::from_secs(30)));
        });
        address.post(2).unwrap();
        assert_eq!(mailbox.take().collect::<Vec<_>>(), [1, 2]);
        assert!(!awake(Duration::ZERO));
    }

    #[test]
    fn a_message_to_nobody_comes_back() {
        let (address, mailbox) = mailbox::<u8>().unwrap();
        drop(mailbox);
        assert_eq!(address.post(7), Err(7));
    }
}
