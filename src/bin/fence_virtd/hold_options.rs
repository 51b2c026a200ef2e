//! Options of `--hold` and `--release`.
#![forbid(unsafe_code)]

use std::ffi::OsString;

use crate::restraints::HoldChange;
use fence_virt::restraints::{HoldReason, HoldSubject, HoldTime};

/// Values of the options, as far as they were given.
#[derive(Default)]
pub(crate) struct HoldOptions {
    subject: Option<HoldSubject>,
    time: Option<HoldTime>,
    reason: Option<HoldReason>,
}

impl HoldOptions {
    /// Takes the value of `--hold`, `--release`, `--for` or `--reason`.
    /// Errors: a sentence about the value.
    pub(crate) fn take(&mut self, option: &str, value: OsString) -> Result<(), String> {
        let named = |reason: String| format!("--{option}: {reason}");
        let value = value.to_str().ok_or_else(|| named("it is not UTF-8 text".to_owned()))?;
        match option {
            "for" => self.time = Some(HoldTime::parse(value).map_err(named)?),
            "reason" => self.reason = Some(HoldReason::new(value).map_err(named)?),
            _ => self.subject = Some(HoldSubject::new(value).map_err(named)?),
        }
        Ok(())
    }

    /// Order to place a hold, or to release one.
    /// Errors: a sentence about an option that is missing.
    pub(crate) fn change(self, is_release: bool) -> Result<HoldChange, String> {
        let subject = self.subject.ok_or("the name of a VM or group is missing")?;
        if is_release {
            return Ok(HoldChange::Release(subject));
        }
        let time = self.time.ok_or("--hold requires --for, such as --for 30m")?;
        let reason = self.reason.ok_or("--hold requires --reason, one line of text")?;
        Ok(HoldChange::Place { subject, reason, time })
    }
}
