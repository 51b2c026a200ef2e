//! corosync's configuration, through libcmap: cmap_overview(3), cmap_keys(7).

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

use super::error::{CorosyncError, check};
use super::libraries::{CmapFunctions, RawHandle};

/// Prefix of the keys of all nodes: `nodelist.node.POSITION.NAME`.
const NODES: &CStr = c"nodelist.node.";
/// Size of the buffer for a key: CMAP_KEYNAME_MAXLEN, and a NUL.
const KEY_SIZE: usize = 256;
const CS_ERR_NOT_EXIST: i32 = 12;
/// End of an iteration.
const CS_ERR_NO_SECTIONS: i32 = 27;

/// Returns the ids of the nodes that the nodelist names, in ascending order; none without a nodelist, or if a node
/// of it has no id.
pub(super) fn node_ids(functions: CmapFunctions) -> Result<Option<Vec<u32>>, CorosyncError> {
    let cmap = CmapHandle::connect(functions)?;
    ids_of(&cmap.keys(NODES)?, |key| cmap.number(key))
}

fn ids_of(
    keys: &[Vec<u8>],
    number: impl Fn(&str) -> Result<Option<u32>, CorosyncError>,
) -> Result<Option<Vec<u32>>, CorosyncError> {
    let positions: BTreeSet<u32> = keys.iter().filter_map(|key| position(key)).collect();
    let mut ids = BTreeSet::new();
    for position in positions {
        match number(&format!("nodelist.node.{position}.nodeid"))? {
            Some(id) => drop(ids.insert(id)),
            None => return Ok(None),
        }
    }
    Ok(Some(Vec::from_iter(ids)).filter(|ids| !ids.is_empty()))
}

/// Position of the node that a key describes.
fn position(key: &[u8]) -> Option<u32> {
    let rest = std::str::from_utf8(key.strip_prefix(NODES.to_bytes())?).ok()?;
    rest.split('.').next()?.parse().ok()
}

/// Connection to the configuration.
struct CmapHandle {
    functions: CmapFunctions,
    handle: RawHandle,
}

impl CmapHandle {
    fn connect(functions: CmapFunctions) -> Result<CmapHandle, CorosyncError> {
        let mut handle = 0;
        // SAFETY: the pointer is valid during the call.
        check("cmap_initialize", unsafe { (functions.cmap_initialize)(&mut handle) })?;
        Ok(CmapHandle { functions, handle })
    }

    /// Returns all keys that begin with a prefix.
    fn keys(&self, prefix: &CStr) -> Result<Vec<Vec<u8>>, CorosyncError> {
        let mut iteration = 0;
        // SAFETY: the handle is open, the pointers are valid during the call.
        check("cmap_iter_init", unsafe {
            (self.functions.cmap_iter_init)(self.handle, prefix.as_ptr(), &mut iteration)
        })?;
        let mut keys = Vec::new();
        let outcome = loop {
            match self.next_key(iteration) {
                Ok(key) => keys.push(key),
                Err(CorosyncError { code: CS_ERR_NO_SECTIONS, .. }) => break Ok(keys),
                Err(error) => break Err(error),
            }
        };
        // SAFETY: the handles are open, and this one is not used afterwards.
        let finalized = unsafe { (self.functions.cmap_iter_finalize)(self.handle, iteration) };
        outcome.and_then(|keys| check("cmap_iter_finalize", finalized).map(|()| keys))
    }

    fn next_key(&self, iteration: RawHandle) -> Result<Vec<u8>, CorosyncError> {
        let mut buffer: [c_char; KEY_SIZE] = [0; KEY_SIZE];
        // SAFETY: the handles are open. libcmap writes CMAP_KEYNAME_MAXLEN bytes at most, so that the last byte
        // stays NUL; length and type are optional.
        check("cmap_iter_next", unsafe {
            (self.functions.cmap_iter_next)(
                self.handle,
                iteration,
                buffer.as_mut_ptr(),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        })?;
        // SAFETY: the buffer has a NUL.
        Ok(unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_bytes().to_vec())
    }

    /// Returns the number that a key has, or none if there is no such key.
    fn number(&self, key: &str) -> Result<Option<u32>, CorosyncError> {
        let Ok(name) = CString::new(key) else { return Ok(None) };
        let mut number = 0;
        // SAFETY: the handle is open, the pointers are valid during the call.
        let asked = unsafe { (self.functions.cmap_get_uint32)(self.handle, name.as_ptr(), &mut number) };
        match check("cmap_get", asked) {
            Ok(()) => Ok(Some(number)),
            Err(CorosyncError { code: CS_ERR_NOT_EXIST, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for CmapHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used afterwards. It is invalid whatever is returned.
        unsafe { (self.functions.cmap_finalize)(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids of a nodelist, of which each key has a number or text.
    fn ids(entries: &[(&str, Option<u32>)]) -> Result<Option<Vec<u32>>, CorosyncError> {
        let keys: Vec<Vec<u8>> = entries.iter().map(|(key, _)| key.as_bytes().to_vec()).collect();
        ids_of(&keys, |wanted| Ok(entries.iter().find(|(key, _)| *key == wanted).and_then(|(_, id)| *id)))
    }

    #[test]
    fn the_ids_of_all_nodes_are_returned_in_ascending_order() {
        let nodes = [
            ("nodelist.node.0.nodeid", Some(7)),
            ("nodelist.node.0.ring0_addr", None),
            ("nodelist.node.10.nodeid", Some(2)),
            ("nodelist.node.10.name", None),
        ];
        assert_eq!(ids(&nodes), Ok(Some(vec![2, 7])));
    }

    #[test]
    fn a_nodelist_that_does_not_name_all_ids_is_none() {
        assert_eq!(ids(&[]), Ok(None));
        let nodes = [("nodelist.node.0.nodeid", Some(7)), ("nodelist.node.1.ring0_addr", None)];
        assert_eq!(ids(&nodes), Ok(None));
        let others = [("nodelist.node.x.nodeid", Some(7)), ("nodelist.local_node_pos", Some(0))];
        assert_eq!(ids(&others), Ok(None));
    }

    #[test]
    fn an_error_is_not_taken_for_a_missing_key() {
        let error = CorosyncError::new("cmap_get", 6);
        assert_eq!(ids_of(&[b"nodelist.node.0.nodeid".to_vec()], |_| Err(error)), Err(error));
    }
}
