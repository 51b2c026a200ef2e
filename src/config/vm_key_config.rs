use std::path::PathBuf;

use super::diagnostic_sink::quoted;
use crate::fence::{NAME_MAX, Target, Uuid, is_printable};

/// Keys that VMs have of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmKeysConfig {
    /// The shared keys of the listeners count, too (default: yes).
    pub is_shared: bool,
    /// Directory of keys: `NAME.key` is that of the VM NAME.
    pub folder: Option<PathBuf>,
    /// Keys with a section of their own, in the order of the file; no two have the same name or UUID.
    pub keys: Vec<VmKeyConfig>,
}

impl Default for VmKeysConfig {
    fn default() -> VmKeysConfig {
        VmKeysConfig { is_shared: true, folder: None, keys: Vec::new() }
    }
}

impl VmKeysConfig {
    /// True if no VM can have a key of its own.
    pub fn is_empty(&self) -> bool {
        self.folder.is_none() && self.keys.is_empty()
    }
}

/// Key of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmKeyConfig {
    /// Name of the VM.
    pub name: String,
    /// UUID of the VM, if it is stated, or if the name reads as one.
    pub uuid: Option<Uuid>,
    /// File of the key.
    pub file: PathBuf,
    /// File of the previous key, which is accepted as well.
    pub old_file: Option<PathBuf>,
}

/// Reads the name of a VM that has a key of its own.
///
/// # Errors
///
/// No VM can have this name; a sentence.
pub fn vm_key_name(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && Target::new(text.as_bytes()).is_ok() && text.chars().all(is_printable);
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        format!("{} is no name of a VM: it has to be 1 to {NAME_MAX} bytes of printable text", quoted(text))
    })
}
