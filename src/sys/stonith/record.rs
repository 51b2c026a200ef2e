use std::ffi::{CStr, c_char, c_int};

/// First fields of stonith_history_t, which all versions have.
#[repr(C)]
pub(super) struct RawRecord {
    target: *const c_char,
    action: *const c_char,
    origin: *const c_char,
    delegate: *const c_char,
    client: *const c_char,
    state: c_int,
    /// A time_t, which has 64 bits where pointers have.
    completed: i64,
    next: *const RawRecord,
}

/// Progress of a fencing action: enum op_state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FencingState {
    /// Not completed, or of an unknown state.
    Pending,
    /// Completed with success.
    Done,
    /// Failed.
    Failed,
}

/// Fencing action on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FencingRecord {
    /// Name of the host, as pacemaker knows it.
    pub target: String,
    /// Action: off, reboot or on.
    pub action: String,
    /// Progress.
    pub state: FencingState,
    /// Node that asked for it.
    pub origin: String,
    /// Node that carried it out, or "a human" after `stonith_admin --confirm`; empty if unknown.
    pub delegate: String,
    /// Program that asked for it, with its process id.
    pub client: String,
    /// Time of its end in seconds since 1970, by a clock of the cluster; 0 before.
    pub completed: i64,
}

/// Most records that are read; the fencer keeps 500.
const RECORDS_MAX: usize = 10_000;

/// Copies a list of records.
///
/// # Safety
///
/// `first` must be null or a valid list of libstonithd.
pub(super) unsafe fn copy_all(first: *const RawRecord) -> Vec<FencingRecord> {
    let mut records = Vec::new();
    let mut next = first;
    // SAFETY: the caller guarantees that the list is valid.
    while let Some(raw) = unsafe { next.as_ref() } {
        if records.len() == RECORDS_MAX {
            break;
        }
        // SAFETY: the strings of a valid record are null or C strings.
        let [target, action, origin, delegate, client] =
            unsafe { [raw.target, raw.action, raw.origin, raw.delegate, raw.client].map(|text| copy(text)) };
        let state = match raw.state {
            2 => FencingState::Done,
            4 => FencingState::Failed,
            _ => FencingState::Pending,
        };
        let completed = raw.completed;
        records.push(FencingRecord { target, action, state, origin, delegate, client, completed });
        next = raw.next;
    }
    records
}

/// # Safety
///
/// `text` must be null or a C string.
unsafe fn copy(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller guarantees it.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::ptr::null;

    use super::*;

    fn raw(action: &CStr, state: c_int, next: *const RawRecord) -> RawRecord {
        let [target, origin, client] = [c"n3".as_ptr(), c"n1".as_ptr(), c"x.7".as_ptr()];
        RawRecord {
            target,
            action: action.as_ptr(),
            origin,
            delegate: null(),
            client,
            state,
            completed: 9,
            next,
        }
    }

    #[test]
    fn a_list_is_copied() {
        let last = raw(c"on", 4, null());
        let first = raw(c"reboot", 2, &last);
        // SAFETY: both are valid until the end of this function.
        let records = unsafe { copy_all(&first) };
        let summary = |record: &FencingRecord| (record.action.clone(), record.state, record.completed);
        assert_eq!(
            records.iter().map(summary).collect::<Vec<_>>(),
            [("reboot".to_owned(), FencingState::Done, 9), ("on".to_owned(), FencingState::Failed, 9)]
        );
        let FencingRecord { target, origin, delegate, client, .. } = &records[0];
        assert_eq!([target, origin, delegate, client], ["n3", "n1", "", "x.7"]);
        // SAFETY: null is an empty list.
        assert_eq!(unsafe { copy_all(null()) }, []);
    }

    #[test]
    fn a_circular_list_ends() {
        let mut one = raw(c"off", 2, null());
        one.next = &raw const one;
        // SAFETY: it is valid until the end of this function.
        assert_eq!(unsafe { copy_all(&one) }.len(), RECORDS_MAX);
    }
}
