//! A fencer without a thread: the fences that the worker hears of are those of a test.

use std::sync::{Arc, Mutex};

use crossbeam_channel::{Sender, bounded};

use super::link::FencingLink;
use super::shared::{FencerCommand, SharedHosts};
use super::stays::{FencedStay, StayNumber, StayTable};
use crate::status::FencerState;
use fence_virt::sys::mailbox::{Mailbox, mailbox};
use fence_virt::sys::mutex::lock;
use fence_virt::time::Instant;
use fence_virt::wire::cluster::NodeId;

/// The thread's end.
pub(crate) struct FakeFencer {
    news: Sender<FencedStay>,
    hosts: Arc<Mutex<SharedHosts>>,
    state: Arc<Mutex<FencerState>>,
    commands: Mailbox<FencerCommand>,
}

/// Stay of a host that a test remembers.
#[derive(Clone, Copy)]
pub(crate) struct RememberedStay(NodeId, StayNumber);

impl FakeFencer {
    pub(crate) fn new() -> (FakeFencer, FencingLink) {
        let (sender, commands) = mailbox().unwrap();
        let (news_sender, news) = bounded(8);
        let (hosts, state): (Arc<Mutex<SharedHosts>>, Arc<Mutex<FencerState>>) = Default::default();
        let (of_link, shown) = (hosts.clone(), state.clone());
        let table = StayTable::default();
        let link =
            FencingLink { commands: sender, news, hosts: of_link, state: shown, table, is_asked: false };
        (FakeFencer { news: news_sender, hosts, state, commands }, link)
    }

    /// Current stay of a host, as the thread is told.
    pub(crate) fn stay(&self, node: NodeId) -> RememberedStay {
        RememberedStay(node, lock(&self.hosts).take()[&node])
    }

    /// Reports that a host was fenced in that stay.
    pub(crate) fn fences(&self, RememberedStay(node, stay): RememberedStay) {
        self.news.send(FencedStay { node, stay, at: Instant::now() }).unwrap();
    }

    /// Number of hosts that the thread is to ask about.
    pub(crate) fn hosts(&self) -> usize {
        lock(&self.hosts).take().len()
    }

    pub(crate) fn becomes(&self, state: FencerState) {
        *lock(&self.state) = state;
    }

    /// Number of times that the thread was told of changes since.
    pub(crate) fn told(&self) -> usize {
        self.commands.take().count()
    }
}
