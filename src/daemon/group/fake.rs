//! A group without a thread: what the worker hears is what a test says.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Sender, bounded};

use super::{GroupLink, Order, Shared, Tidings, now_millis};
use crate::sys::mailbox::{Mailbox, mailbox};
use crate::wire::cluster::ClusterMessage;

/// The thread's end.
pub(in crate::daemon) struct FakeGroup {
    orders: Mailbox<Order>,
    tidings: Sender<Vec<Tidings>>,
    shared: Arc<Shared>,
}

impl FakeGroup {
    pub(in crate::daemon) fn new() -> (FakeGroup, GroupLink) {
        let (address, orders) = mailbox().unwrap();
        let (sender, tidings) = bounded(64);
        let shared = Arc::new(Shared::default());
        let link = GroupLink { orders: address, tidings, shared: shared.clone(), groups: 0 };
        (FakeGroup { orders, tidings: sender, shared }, link)
    }

    /// The worker hears this, and that it was all.
    pub(in crate::daemon) fn tell(&self, tidings: Vec<Tidings>) {
        self.tidings.send(tidings).unwrap();
        self.turns();
    }

    /// It has turned, and heard all that there was.
    pub(in crate::daemon) fn turns(&self) {
        self.shared.turned.store(now_millis(), Ordering::Release);
        self.shared.caught_up.store(now_millis(), Ordering::Release);
    }

    /// Since so many milliseconds it hangs.
    pub(in crate::daemon) fn hangs(&self, millis: u64) {
        self.shared.turned.store(now_millis().saturating_sub(millis), Ordering::Release);
        self.shared.caught_up.store(now_millis().saturating_sub(millis), Ordering::Release);
    }

    /// What the worker has sent since.
    pub(in crate::daemon) fn sent(&self) -> Vec<ClusterMessage> {
        let orders = self.orders.take().collect::<Vec<_>>();
        self.shared.unsent.store(0, Ordering::Release);
        let message = |order| match order {
            Order::Send(parcel) => ClusterMessage::decode(&parcel.message.bytes).unwrap(),
            Order::Stop => panic!("the worker does not stop it"),
        };
        orders.into_iter().map(message).collect()
    }
}
