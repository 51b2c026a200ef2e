use std::fmt;
use std::net::IpAddr;

/// Addresses, separated by commas.
pub(super) struct Hosts<'a>(pub(super) &'a [IpAddr]);

impl fmt::Display for Hosts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, host) in self.0.iter().enumerate() {
            write!(f, "{}{host}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
