//! Pacemaker's fencer as the thread uses it: traits, so that faults can be tested.

use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use fence_virt::sys::stonith::{FencerEvent, FencerHandle, FencerLibrary, FencingRecord};
use fence_virt::wire::cluster::NodeId;

/// Access to the fencer of this host.
pub(crate) trait FencerConnector: Send + 'static {
    type Fencer: Fencer;

    /// Connects; the error is a sentence.
    fn connect(&self) -> Result<Self::Fencer, String>;
    /// Name of the fencer's library; none before the first connection.
    fn library(&self) -> Option<&str>;
}

/// Connection to the fencer; after an error it is lost.
pub(crate) trait Fencer {
    /// Makes the descriptor readable at the next event of this kind.
    fn await_event(&mut self, event: FencerEvent) -> Result<(), String>;
    /// Descriptor to poll for input.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Queries the fencing actions on a node.
    fn history(&mut self, node: NodeId) -> Result<Vec<FencingRecord>, String>;
}

/// The fencer of pacemaker. Its library is loaded at the first attempt to connect that finds it.
#[derive(Debug, Default)]
pub(crate) struct Pacemaker {
    library: OnceLock<FencerLibrary>,
}

impl FencerConnector for Pacemaker {
    type Fencer = FencerHandle;

    fn connect(&self) -> Result<FencerHandle, String> {
        let library = match self.library.get() {
            Some(library) => library,
            None => {
                let opened = FencerLibrary::open().map_err(|error| error.to_string())?;
                self.library.get_or_init(|| opened)
            }
        };
        FencerHandle::connect(library, c"fence_virtd")
    }

    fn library(&self) -> Option<&str> {
        self.library.get().map(FencerLibrary::file)
    }
}

impl Fencer for FencerHandle {
    fn await_event(&mut self, event: FencerEvent) -> Result<(), String> {
        FencerHandle::await_event(self, event).map_err(|error| error.to_string())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        FencerHandle::fd(self)
    }

    fn history(&mut self, node: NodeId) -> Result<Vec<FencingRecord>, String> {
        FencerHandle::history(self, node.0).map_err(|error| error.to_string())
    }
}
