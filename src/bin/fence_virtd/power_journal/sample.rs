//! Record for tests.

use fence_virt::fence::Operation;
use fence_virt::power_log::{PowerRecord, PowerVerdict, WallTime};

/// Returns the record of a power-off of this VM.
pub(crate) fn record(vm: &str) -> PowerRecord {
    PowerRecord {
        time: WallTime::from_millis(1_796_020_802_125),
        listener: "tcp".to_owned(),
        requester: "192.0.2.7".to_owned(),
        share: "192.0.2.7".to_owned(),
        operation: Operation::Off,
        vm: vm.to_owned(),
        verdict: PowerVerdict::Success,
        reason: "destroyed".to_owned(),
        millis: Some(9),
    }
}
