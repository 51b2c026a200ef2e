//! A group without a thread: what the worker hears is what a test says.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Sender, bounded};

use super::link::{GroupLink, Order, Shared, Tidings, now_millis};
use fence_virt::sys::mailbox::{Mailbox, mailbox};
use fence_virt::wire::cluster::ClusterMessage;

/// The thread's end.
pub(crate) struct FakeGroup {
    orders: Mailbox<Order>,
    tidings: Sender<Vec<Tidings>>,
    shared: Arc<Shared>,
}

impl FakeGroup {
    pub(crate) fn new() -> (FakeGroup, GroupLink) {
        let (address, orders) = mailbox().unwrap();
        let (sender, tidings) = bounded(64);
        let shared = Arc::new(Shared::default());
        let link = GroupLink { orders: address, tidings, shared: shared.clone(), groups: 0 };
        (FakeGroup { orders, tidings: sender, shared }, link)
    }

    /// The worker hears this, and that it was all.
    pub(crate) fn tell(&self, tidings: Vec<Tidings>) {
        self.tidings.send(tidings).unwrap();
        self.turns();
    }

    /// It has turned, and heard all that there was.
    pub(crate) fn turns(&self) {
        self.shared.turned.store(now_millis(), Ordering::Release);
        self.shared.caught_up.store(now_millis(), Ordering::Release);
    }

    /// Since so many milliseconds it hangs.
    pub(crate) fn hangs(&self, millis: u64) {
        self.shared.turned.store(now_millis().saturating_sub(millis), Ordering::Release);
        self.shared.caught_up.store(now_millis().saturating_sub(millis), Ordering::Release);
    }

    /// What the worker has sent since.
    pub(crate) fn sent(&self) -> Vec<ClusterMessage> {
        let orders = self.orders.take().collect::<Vec<_>>();
        self.shared.unsent.store(0, Ordering::Release);
        let message = |order| match order {
            Order::Send(parcel) => ClusterMessage::decode(&parcel.message.bytes).unwrap(),
            Order::Stop => panic!("the worker does not stop it"),
        };
        orders.into_iter().map(message).collect()
    }
}
